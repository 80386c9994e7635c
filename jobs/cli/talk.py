"""How much a command says: `-q` leaves out progress and notes, `-v` adds what Ray says and tracebacks.

    set_loudness(quiet=options.quiet, verbose=options.verbose)
    say("labels: s3://bucket/labels")   # a note; results and errors are printed in any case

The level of the logger `scclip` holds it, where `scclip.pipeline` finds it too.
"""

import logging
import sys
from typing import TextIO

LOGGER = logging.getLogger("scclip")


def set_loudness(*, quiet: bool = False, verbose: bool = False) -> None:
    """Sets how much this process says."""
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
        print(note, file=file, flush=True)


def notes(json: bool) -> TextIO:
    """Where a verb's notes go: to stderr where stdout holds one JSON object."""
    return sys.stderr if json else sys.stdout
