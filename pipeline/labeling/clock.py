"""How long the pieces of work of a stage take in one process; needs no Ray.

clock = Clock("decode"); clock.begin(); ...; clock.pause(); clock.seconds
"""

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_inside: dict[str, int] = {}
_since: dict[str, float] = {}


@dataclass
class Clock:
    """Seconds of one piece of work, as far as no other of its stage in this process has counted them."""

    stage: str
    seconds: float = 0.0

    def begin(self) -> None:
        """Work goes on from here."""
        with _lock:
            if not _inside.get(self.stage):
                _since[self.stage] = time.perf_counter()
            _inside[self.stage] = _inside.get(self.stage, 0) + 1

    def pause(self) -> None:
        """Work rests from here."""
        with _lock:
            now = time.perf_counter()
            self.seconds += now - _since[self.stage]
            _since[self.stage] = now
            _inside[self.stage] -= 1

    def through(self, items: Iterable[T]) -> Iterator[T]:
        """The items; the time that their taker needs between two of them is not counted."""
        for item in items:
            self.pause()
            try:
                yield item
            finally:
                self.begin()
