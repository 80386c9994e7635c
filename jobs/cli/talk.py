"""How much a command says: `-q` leaves out progress and notes, `-v` adds what Ray says and tracebacks.

    set_loudness(quiet=options.quiet, verbose=options.verbose)
    say("labels: s3://bucket/labels")   # a note
    tell("12 images, 3 of them equal")  # a result; results and errors are printed in any case

All of it goes out without credentials and control characters, whatever names of strangers are in it. The level of the
logger `scclip` holds how much is said, where `scclip.pipeline` finds it too.
"""

import json
import logging
import os
import sys
from typing import TextIO

from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import hidden

LOGGER = logging.getLogger("scclip")
RAYS_LINES = "RAY_DEDUP_LOGS_SKIP_REGEX"  # which of its cluster's lines Ray leaves out; it is read as Ray is imported


def set_loudness(*, quiet: bool = False, verbose: bool = False) -> None:
    """Sets how much this process says; before Ray is imported, whose cluster's warnings would go to stdout."""
    if not verbose:
        os.environ.setdefault(RAYS_LINES, ".")
    LOGGER.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def is_quiet() -> bool:
    """Whether notes and progress are left out."""
    return not LOGGER.isEnabledFor(logging.INFO) and LOGGER.level != logging.NOTSET


def is_verbose() -> bool:
    """Whether everything is said."""
    return LOGGER.isEnabledFor(logging.DEBUG)


def no_bar() -> bool:
    """Whether a progress bar is left out: with -q, and where nobody watches it."""
    return is_quiet() or not sys.stderr.isatty()


def say(note: str, file: TextIO | None = None) -> None:
    """Prints a note, to stdout if no other file is given, unless the command is quiet."""
    if not is_quiet():
        print(shown(note), file=file, flush=True)


def tell(*lines: str) -> None:
    """Prints results to stdout, one line each."""
    for line in lines:
        print(shown(line), flush=True)


def shown(line: str) -> str:
    """A text as one line for a terminal, without credentials and control characters."""
    return redact(line).replace("\n", "\\n").replace("\r", "\\r")


def json_line(document: object) -> str:
    """A document as one line of JSON, no text of it with credentials; ASCII, so that no text steers a terminal."""
    return json.dumps(without_credentials(document), default=str)


def without_credentials(document: object) -> object:
    """A tree of dicts and lists whose texts, keys too, are as `hidden` has them."""
    if isinstance(document, dict):
        return {hidden(str(key)): without_credentials(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return list(map(without_credentials, document))
    return hidden(document) if isinstance(document, str) else document


def notes(json: bool) -> TextIO:
    """Where a verb's notes go: to stderr where stdout holds one JSON object."""
    return sys.stderr if json else sys.stdout
