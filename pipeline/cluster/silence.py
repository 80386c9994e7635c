"""Says what a job waits for: a job that says nothing for half a minute looks like one that hangs.

with Silence(lambda: "the inputs are being listed", say=print) as silence:
    for outcome in outcomes:
        silence.progress()
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from scclip.errors import one_line

FIRST, LONGEST = 30.0, 600.0  # seconds until the first reminder, and at most between two


class Reminder:
    """Says something when it is due: after `first` seconds, then each time after twice as long."""

    def __init__(self, say: Callable[[str], None], first: float = FIRST) -> None:
        self.say, self.first = say, first
        self.reset()

    def reset(self) -> None:
        """Begins to count anew."""
        self.since = self.last = time.monotonic()
        self.pause = self.first

    def due(self, text: Callable[[], str]) -> None:
        """Says `text()` where the time has come."""
        now = time.monotonic()
        if now - self.last >= self.pause:
            self.last, self.pause = now, min(2 * self.pause, LONGEST)
            self.say(f"waiting for {now - self.since:.0f} s: {text()}")


@contextlib.contextmanager
def every_second(look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` once a second, in a thread of its own, while the block runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            look()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


class Silence(contextlib.AbstractContextManager["Silence"]):
    """Watches that there is progress, and says the reason where there is none.

    Args:
        reason: what is waited for, in words.
        say: takes the line.
    """

    def __init__(self, reason: Callable[[], str], say: Callable[[str], None]) -> None:
        self.reason, self.reminder = reason, Reminder(say)
        self.resumed: Callable[[], None] = lambda: None
        self.patrol = every_second(self.look)

    def __enter__(self) -> "Silence":
        self.patrol.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.patrol.__exit__(None, None, None)

    def progress(self) -> None:
        """Something was done."""
        self.reminder.reset()
        self.resumed()

    def look(self) -> None:
        """Says the reason where it is due; a reminder must not end a job."""
        with contextlib.suppress(Exception):
            self.reminder.due(self.told)

    def told(self) -> str:
        """The reason, or why it cannot be told."""
        try:
            return self.reason()
        except Exception as error:
            return f"for what is not known ({one_line(error)})"
