"""One progress line: images done, rate, failures, time left.

with Progress(units) as progress:
    for outcome in label_units(units, job):
        progress.add(outcome)
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from scclip.jobs.cli.talk import is_quiet, no_bar
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import Outcome
from scclip.wording import counted

LOG_SECONDS = 30  # between two lines where the output is no terminal
SHOW_SECONDS = 0.25  # between two on a terminal


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Counts outcomes. The share done is one of the input's bytes: the number of images is known only at the end."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = {unit.number: unit for unit in units}
        self.total = sum(map(weight, units))
        self.done = 0.0
        self.fraction: dict[int, float] = {}
        self.images = self.labeled = 0
        self.faults: dict[str, Any] = {"worker_deaths": {}, "storage_retries": 0, "stage_seconds": {}}
        self.began = time.monotonic()
        self.shown = self.began
        self.bar = tqdm(bar_format="{desc}", desc="starting", disable=no_bar(), leave=False, dynamic_ncols=True)

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def add(self, outcome: Outcome) -> None:
        """Adds a committed chunk and shows the line."""
        self.images += outcome.images
        self.labeled += outcome.labeled
        unit, before = self.units[outcome.unit], self.fraction.get(outcome.unit, 0.0)
        fraction = self.fraction[outcome.unit] = max(before, outcome.fraction(unit))
        self.done += (fraction - before) * weight(unit)
        now, wait = time.monotonic(), LOG_SECONDS if self.bar.disable else SHOW_SECONDS
        if now - self.shown < wait:
            return
        self.shown = now
        if not self.bar.disable:
            self.bar.set_description_str(self.line())
        elif not is_quiet():
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """`37 % · 1,204 images · 12.1/s · 0 failed · 2 min left`."""
        done = self.done / self.total
        left = self.seconds * (1 - done) / done if done > 0 else None
        rate = self.images / self.seconds
        parts = [
            f"{done:4.0%}",
            counted(self.images, "image"),
            f"{rate:,.1f}/s",
            f"{self.images - self.labeled:,} failed",
        ]
        return " · ".join([*parts, f"{duration(left)} left" if left is not None else "…"])


def weight(unit: Unit) -> int:
    """What a unit counts in the share that is done: its bytes."""
    return max(1, unit.size)


def duration(seconds: float) -> str:
    """Returns seconds as people read them: 40 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
