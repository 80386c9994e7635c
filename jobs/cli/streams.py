"""All that a command's process prints and logs goes out without credentials, whoever says it.

with credentials_hidden(): ...   # tracebacks, warnings, logs, progress bars, the lines of workers that Ray passes on
"""

import contextlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, cast

from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import hidden

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Ray's, in the tracebacks of workers


class HiddenStream:
    """A text stream that passes lines on without credentials, each when it is whole or is flushed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line, self._lock = stream, "", threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Takes a text, of which the last line may go on."""
        with self._lock:
            lines = self._line + text
            whole = max(lines.rfind("\n"), lines.rfind("\r")) + 1
            self._line = lines[whole:]
            if whole:
                self._stream.write(hidden(lines[:whole]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Takes texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Passes on what there is."""
        with self._lock:
            rest, self._line = self._line, ""
            if rest:
                self._stream.write(hidden(rest))
        self._stream.flush()


@contextlib.contextmanager
def credentials_hidden() -> Iterator[None]:
    """Within the block stdout and stderr hide credentials, and so do the records of all loggers, which files take too.

    BrokenPipeError where nobody reads stdout any more.
    """
    streams, record = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    out, err = (cast(TextIO, HiddenStream(stream)) if stream else None for stream in streams)  # None: a closed one
    sys.stdout, sys.stderr = out, err
    logging.setLogRecordFactory(_public_records(record))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        logging.setLogRecordFactory(record)
        for stream in filter(None, (err, out)):
            stream.flush()


def _public_records(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Makes records of logs whose messages and tracebacks hold no credentials."""

    def record(*given: Any, **named: Any) -> logging.LogRecord:
        made = make(*given, **named)
        with contextlib.suppress(TypeError, ValueError):  # words that do not fit the message: logging says so
            made.msg, made.args = hidden(made.getMessage()), ()
        if made.exc_info and made.exc_info[1]:
            made.exc_text = hidden("".join(traceback.format_exception(made.exc_info[1])).rstrip())
        return made

    return record


def traceback_text() -> str:
    """The traceback of the exception that is being handled, and of those that led to it, as it can be printed."""
    return redact(_COLOUR.sub("", traceback.format_exc())).rstrip()
