"""What a stage asks before each image.

for image in images:
    if reason := watch(image.index):   # leave this one alone, and say why in its row
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from scclip.pipeline.labeling.clock import Clock

EXCLUDED_AFTER = 2  # deaths of an image that was alone in flight


class Work(NamedTuple):
    """A piece of work: what a stage does with one chunk (0 where the stage takes whole units)."""

    stage: str
    unit: int
    chunk: int


NO_WORK = Work("", 0, 0)


@dataclass(frozen=True)
class Orders:
    """How a piece of work is to be done."""

    one_by_one: bool = False
    """Announce every image before it is processed, and nothing beside it."""
    excluded: frozenset[int] = frozenset()
    """Indices of images not to be touched."""


class Watch:
    """What a stage asks before each image. `Watch()` lets everything pass, for loops without Ray."""

    def __init__(self, ledger: Any = None, work: Work = NO_WORK, orders: Orders = Orders()) -> None:
        self.ledger, self.work, self.orders = ledger, work, orders
        self.one_by_one, self.clock = orders.one_by_one, Clock(work.stage)

    def __call__(self, index: int | None) -> str | None:
        """None: go on with this image. Otherwise leave it alone: the reason for its row.

        Without an index no image is in flight from now on, as while a reader waits for those who take its chunks.
        """
        if index is None:
            if self.one_by_one:
                self.ledger.alone.remote(self.work, None)
            return None
        if index in self.orders.excluded:
            doing = {"decode": "decoded", "label": "labeled"}.get(self.work.stage, self.work.stage)
            return f"its process died {EXCLUDED_AFTER} times while it alone was being {doing}; it is set aside"
        if self.one_by_one:
            answer(self.ledger.alone.remote(self.work, index))
        return None


FREE = Watch()


def answer(reference: Any) -> Any:
    """The value of an object. Not `ray.get`: that gives the task's CPU away for the millisecond it waits."""
    return reference.future().result()
