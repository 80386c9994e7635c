"""What a task of labeling, export and sharding is given does not grow with the job."""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import ray
import ray.data
from ray import cloudpickle

from scclip.pipeline.benchmarks.downloads import Sample
from scclip.pipeline.benchmarks.sharding import write_shards
from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.export.chain import export_units
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.graph import build_graph
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.run.files import RunFiles


class Recorder:
    """Takes what is handed to Ray Data."""

    def __init__(self) -> None:
        self.rows: Sequence[Mapping[str, Any]] = []
        self.functions: list[Any] = []

    def from_items(self, rows: Sequence[Mapping[str, Any]], **_: object) -> "Recorder":
        self.rows = rows
        return self

    def map_batches(self, function: Any, **_: object) -> "Recorder":
        self.functions.append(function)
        return self

    def iter_batches(self, **_: object) -> Iterator[Any]:
        return iter(())

    def bytes_of_a_task(self) -> int:
        """Of the largest row, and of the functions of all stages."""
        functions = sum(len(cloudpickle.dumps(function)) for function in self.functions)
        return max(len(pickle.dumps(row)) for row in self.rows) + functions


def units(count: int) -> list[Unit]:
    return [Unit(number=n, kind="tar", url=f"/data/{n:06d}.tar", size=9_000, version="1") for n in range(1, count + 1)]


def label(count: int) -> None:
    job = LabelJob(
        files=RunFiles("/run"),
        spec=None,  # type: ignore[arg-type]
        resources=divide(ComputeConfig(), nodes=[Shape(2)]),
        limits=ChunkLimits(),
        commit=None,  # type: ignore[arg-type]
        finish=None,  # type: ignore[arg-type]
        done={n: {0, 1} for n in range(1, count + 1)},
    )
    build_graph(units(count), job, None)


def export(count: int) -> None:
    list(export_units(units(count), None))  # type: ignore[arg-type]


def shard(count: int) -> None:
    samples = [Sample(f"{n:06d}", f"/in/{n:06d}.jpg", f"/in/{n:06d}.png", None) for n in range(4)]
    list(write_shards([(f"/out/{n:06d}.tar", samples) for n in range(count)]))


@pytest.mark.parametrize("start", [label, export, shard])
def test_a_task_of_a_large_job_is_given_no_more(
    start: Callable[[int], None], local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    for count in (20_000, 60_000):
        recorder = Recorder()
        monkeypatch.setattr(ray.data, "from_items", recorder.from_items)
        start(count)
        assert recorder.rows and recorder.functions
        given.append(recorder.bytes_of_a_task())
    assert given[1] <= 1.05 * given[0] < 50_000
