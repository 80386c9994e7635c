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

LOG_SECONDS = 30  # between two lines where the output is no terminal


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Counts outcomes. The share done is one of the input's bytes: the number of images is known only at the end."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = {unit.number: unit for unit in units}
        self.weight = {unit.number: max(1, unit.size) for unit in units}
        self.fraction: dict[int, float] = {}
        self.images = self.labeled = 0
        self.faults: dict[str, Any] = {"worker_deaths": {}, "storage_retries": 0, "stage_seconds": {}}
        self.began = time.monotonic()
        self.logged = self.began
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
        known = self.fraction.get(outcome.unit, 0.0)
        self.fraction[outcome.unit] = max(known, outcome.fraction(self.units[outcome.unit]))
        self.bar.set_description_str(self.line())
        if self.bar.disable and not is_quiet() and time.monotonic() - self.logged >= LOG_SECONDS:
            self.logged = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """`37 % · 1,204 images · 12.1/s · 0 failed · 2 min left`."""
        done = sum(self.fraction[unit] * self.weight[unit] for unit in self.fraction) / sum(self.weight.values())
        left = self.seconds * (1 - done) / done if done > 0 else None
        rate = self.images / self.seconds
        parts = [f"{done:4.0%}", f"{self.images:,} images", f"{rate:,.1f}/s", f"{self.images - self.labeled:,} failed"]
        return " · ".join([*parts, f"{duration(left)} left" if left is not None else "…"])


def duration(seconds: float) -> str:
    """Returns seconds as people read them: 40 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
