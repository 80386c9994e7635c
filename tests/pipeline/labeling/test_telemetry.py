"""Busy seconds count a process's time once however calls overlap; the bottleneck is the stage nearest to its limit."""

import threading
import time
from collections.abc import Iterator

import pytest

from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.labeling import telemetry as monitoring
from scclip.pipeline.labeling.clock import Clock


@pytest.fixture()
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is, set by the test."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_overlapping_calls_are_counted_once(clock: list[float]) -> None:
    with monitoring.busy(one := Clock("label")):
        clock[0] = 2
        with monitoring.busy(two := Clock("label")), monitoring.busy(other := Clock("decode")):
            clock[0] = 5
        clock[0] = 6
    clock[0] = 9
    with monitoring.busy(later := Clock("label")):
        clock[0] = 10
    assert (one.seconds + two.seconds, later.seconds, other.seconds) == (6, 1, 3)


def test_waiting_for_the_taker_is_not_work(clock: list[float]) -> None:
    def items() -> Iterator[int]:
        for number in range(3):
            clock[0] += 1
            yield number

    with monitoring.busy(work := Clock("read")):
        for _ in work.through(items()):
            clock[0] += 100
    assert work.seconds == 3


def test_a_call_that_fails_ends_its_time(clock: list[float]) -> None:
    with pytest.raises(RuntimeError), monitoring.busy(Clock("commit")):
        raise RuntimeError
    clock[0] = 50
    with monitoring.busy(work := Clock("commit")):
        clock[0] = 51
    assert work.seconds == 1


def test_threads_share_the_clock() -> None:
    """Four threads busy at the same time for a while: together no more than that while."""
    clocks, barrier = [], threading.Barrier(4)

    def call() -> None:
        barrier.wait()
        with monitoring.busy(work := Clock("label")):
            time.sleep(0.05)
        clocks.append(work)

    began = time.perf_counter()
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.05 <= sum(work.seconds for work in clocks) <= time.perf_counter() - began


@pytest.mark.parametrize(
    ("seconds", "bottleneck"),
    [
        ({"label": 95.0, "decode": 40.0}, "label"),
        ({"label": 30.0, "decode": 290.0}, "decode"),
        ({"read": 110.0, "label": 10.0, "commit": 3.0}, "read"),
        ({}, None),
    ],
)
def test_the_bottleneck_is_the_stage_that_used_up_its_share(seconds: dict[str, float], bottleneck: str | None) -> None:
    """Four CPUs, one for the GPU's actor, three for the others, 100 seconds."""
    resources = divide(ComputeConfig(), nodes=[Shape(4, 1)])
    summary = monitoring.stage_summary(seconds, resources, 100.0)
    assert summary["bottleneck"] == bottleneck
    assert set(summary["stages"]) == set(monitoring.STAGES)
    assert summary["stages"]["label"]["share"] == pytest.approx(seconds.get("label", 0) / 100)
    assert summary["stages"]["decode"]["share"] == pytest.approx(seconds.get("decode", 0) / 300, abs=1e-3)


def test_metrics_are_named_and_documented_in_one_place() -> None:
    table = monitoring.__doc__ or ""
    for name in [*monitoring.COUNTERS, monitoring.WAITING]:
        assert f"| {name} |" in table
