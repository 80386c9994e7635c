"""What a run tells of itself: Ray metrics while it runs, and which stage held it up.

Ray exports every metric with the prefix `ray_` (Prometheus: /metrics of every node's agent; dashboard: Metrics).

| metric | tags | counts |
| --- | --- | --- |
| scclip_images_total | status | images committed: ok, undecodable, label_failed, … |
| scclip_windows_total | | windows that went through the model |
| scclip_busy_seconds_total | stage | time in which a process did the stage's work; label: an actor (its GPU) was busy |
| scclip_storage_retries_total | stage | storage requests that were repeated |
| scclip_worker_deaths_total | stage | processes that died over a chunk |
| scclip_waiting_chunks | | decoded chunks that no actor has begun: 0 all the time means that the actors starve |

    with busy(clock := Clock("decode")): ...   # clock.seconds afterwards
    count("scclip_images_total", 12, status="ok")
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.util import metrics

from scclip.pipeline.cluster.resources import Resources
from scclip.pipeline.labeling.clock import Clock

COUNTERS = {
    "scclip_images_total": ("Images committed", ("status",)),
    "scclip_windows_total": ("Windows that went through the model", ()),
    "scclip_busy_seconds_total": ("Seconds in which a process did the stage's work", ("stage",)),
    "scclip_storage_retries_total": ("Storage requests that were repeated", ("stage",)),
    "scclip_worker_deaths_total": ("Processes that died over a chunk", ("stage",)),
}
WAITING = "scclip_waiting_chunks"
STAGES = ("read", "decode", "label", "commit", "finish")
_lock = threading.Lock()
_made: dict[str, Any] = {}


def count(name: str, amount: float, **tags: str) -> None:
    """Adds to a counter of this process; outside of Ray nothing happens."""
    if amount > 0 and ray.is_initialized():
        _metric(metrics.Counter, name, *COUNTERS[name]).inc(amount, tags)


def show_waiting(chunks: int) -> None:
    """Sets the length of the actors' queue."""
    if ray.is_initialized():
        _metric(metrics.Gauge, WAITING, "Decoded chunks that no actor has begun").set(chunks)


def _metric(kind: type, name: str, text: str, tags: tuple[str, ...] = ()) -> Any:
    with _lock:
        if name not in _made:
            _made[name] = kind(name, text, tags)
        return _made[name]


@contextlib.contextmanager
def busy(clock: Clock) -> Iterator[None]:
    """Counts the block's time: of overlapping calls in one process every second only once."""
    clock.begin()
    try:
        yield
    finally:
        clock.pause()
        count("scclip_busy_seconds_total", clock.seconds, stage=clock.stage)


def stage_summary(seconds: Mapping[str, float], resources: Resources, elapsed: float) -> dict[str, Any]:
    """`stages` and `bottleneck` of summary.json.

    A stage's share is its busy seconds over what it could have had: for `label` those of the actors, for the others
    those of the CPUs that the actors leave. The bottleneck is the stage with the largest share; on a cluster that grew
    or shrank meanwhile shares are rough.
    """
    actors = max(1, min(resources.max_actors, resources.fitting))
    cpus = max(resources.spare_cpus, resources.decode_cpus)
    had = {stage: elapsed * (actors if stage == "label" else cpus) for stage in STAGES}
    used = {stage: seconds.get(stage, 0.0) for stage in STAGES}
    shares = {stage: used[stage] / had[stage] if had[stage] else 0.0 for stage in STAGES}
    stages = {stage: {"busy_seconds": round(used[stage], 3), "share": round(shares[stage], 3)} for stage in STAGES}
    return {"stages": stages, "bottleneck": max(STAGES, key=shares.__getitem__) if any(shares.values()) else None}
