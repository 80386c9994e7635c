"""The progress line: right sums, a cost that does not grow with the units, few lines a second."""

import random
import time

import pytest

from scclip.jobs.cli.progress import Progress
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import Outcome


def shards(count: int) -> list[Unit]:
    return [Unit(number=n, kind="tar", url=f"/{n}.tar", size=n % 7, version="") for n in range(1, count + 1)]


def test_the_share_done_is_that_of_the_bytes() -> None:
    units, order = shards(50), random.Random(1)
    with Progress(units) as progress:
        for unit in order.sample(units, 20):
            progress.add(Outcome(unit.number, 0, True, 0, 0))
            progress.add(Outcome(unit.number, 0, True, 0, 0))  # once more, after its node was lost
        ended = progress.fraction
        whole = sum(max(1, unit.size) for unit in units if unit.number in ended) / sum(max(1, u.size) for u in units)
        assert len(ended) == 20 and progress.line().startswith(f"{whole:4.0%} · 0 images")
        for unit in units:
            progress.add(Outcome(unit.number, 0, True, 2, 1))
        assert progress.line().startswith("100% · 100 images") and "50 failed" in progress.line()


def test_the_cost_of_an_outcome_does_not_grow_with_the_units() -> None:
    def seconds(count: int) -> float:
        units = shards(count)
        with Progress(units) as progress:
            for unit in units:
                progress.add(Outcome(unit.number, 0, True, 1, 1))
            began = time.process_time()
            for unit in units[:2000]:
                progress.add(Outcome(unit.number, 0, True, 1, 1))
            return time.process_time() - began

    assert seconds(50_000) < 5 * seconds(2_000) + 0.05


def test_a_terminal_gets_few_lines_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with Progress(shards(3000)) as progress:
        shown = list[str]()
        monkeypatch.setattr(progress.bar, "disable", False)
        monkeypatch.setattr(progress.bar, "set_description_str", shown.append)
        began = time.monotonic()
        for unit in progress.units.values():
            progress.add(Outcome(unit.number, 0, True, 1, 1))
        assert len(shown) <= 1 + 4 * (time.monotonic() - began)
        monkeypatch.setattr(progress.bar, "disable", True)
