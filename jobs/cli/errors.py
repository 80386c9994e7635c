"""Warnings and failures of a job, one line each, and what a misspelt word was meant to be."""

import difflib
import re
import sys
from collections.abc import Iterable, Sequence

from scclip.errors import one_line
from scclip.jobs.cli.talk import shown

ADVICE = re.compile(  # of Ray Data to its programmers, at the end of what a worker raised
    r"\nFailed to .+ after \d+/\d+ attempts \(total backoff [\d.]+s\)\.\n(?:.*\n)?To change retry attempts, .*"
)
CHAINED = "The above exception was the direct cause of the following exception:"  # as Python prints it


def cause(error: BaseException) -> str:
    """Returns the first cause of an error that came through Ray, type and message in one line.

    What a worker raised first does not travel with the exception, only with its printed traceback.
    """
    text = ADVICE.sub("", str(error))
    first, chained, _ = text.partition(CHAINED)
    if chained:
        lines = first.strip().splitlines()
        code = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=len(lines) - 2)
        kind, _, message = " ".join(lines[code + 1 :]).partition(": ")
        return f"{kind.rpartition('.')[2]}: {message}"
    inner = getattr(error, "cause", None) or error.__cause__
    return cause(inner) if inner is not None else f"{type(error).__name__}: {one_line(text or error)}"


def hint(word: str, known: Iterable[str], remedy: str = "") -> str:
    """What a word that is unknown may have been meant to be; else `remedy`, by default the words that there are."""
    known = list(map(str, known))
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else remedy or f"choose {', '.join(known)}"


def warn(lines: Sequence[str], verb: str = "label") -> None:
    """Prints warnings to stderr, one line each."""
    for line in lines:
        print(f"scclip {verb}: {shown(line)}", file=sys.stderr)
