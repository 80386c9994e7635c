"""The whole labeling graph as one Ray Data chain, and the driver that follows it.

    for outcome in label_units(units, job): ...   # one row per committed chunk; finished units are committed on the way

A unit is a shard, a chunk a run of its images: the row that flows, the batch of the actor, one part on disk. Nothing is
shuffled and no state crosses the cluster: a unit travels in the row of the task that reads it. Small units share a
row, so that a task, and a call of the actor, costs what it does for large ones.
"""

import contextlib
import functools
import os
import pickle
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from scclip.errors import DeviceLost
from scclip.pipeline.annotations.schemas import Status, records_of, table_of
from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.inputs.chunks import Chunk, ChunkLimits, from_row, packed, to_row, together, unpacked
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.inputs.groups import grouped
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.job import OUTCOME_SCHEMA, Commit, Finish, LabelJob, Outcome
from scclip.pipeline.labeling.ledger import Attempt, Gate, attempts, running_ledger, start_announced
from scclip.pipeline.labeling.telemetry import count
from scclip.pipeline.run.commit import resume_after
from scclip.pipeline.run.files import RunFiles

FINISHING = 4  # tasks that finish units at the same time: each holds the parts of one unit in memory


def build_graph(units: Sequence[Unit], job: LabelJob, ledger: Any) -> Dataset:
    """The architecture: groups of units in, one `Outcome` per chunk out."""
    share = job.resources
    work = [
        {"work": pickle.dumps([(unit, job.done.get(unit.number, set())) for unit in group])}
        for group in grouped(units, share.max_actors)
    ]
    rows: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    pool = ActorPoolStrategy(
        min_size=share.min_actors,
        max_size=share.max_actors,
        max_tasks_in_flight_per_actor=share.calls_in_flight + 1,
        max_concurrent_calls_per_actor=share.calls_in_flight,
    )
    read = functools.partial(read_stage, limits=job.limits, files=job.files, truth=job.truth, ledger=ledger)
    decode = functools.partial(decode_stage, config=job.decode, ledger=ledger)
    commit = functools.partial(commit_stage, files=job.files, write=job.commit, ledger=ledger)
    return (
        ray.data.from_items(work, override_num_blocks=len(work))
        .map_batches(read, num_cpus=share.read_cpus, **rows)
        .map_batches(decode, num_cpus=share.decode_cpus, **rows)
        .map_batches(
            LabelingActor,
            fn_constructor_args=([ray.put(job.spec)], ledger),
            compute=pool,
            num_cpus=share.actor_cpus,
            num_gpus=share.gpus_per_actor or None,
            **rows,
        )
        .map_batches(commit, num_cpus=share.commit_cpus, **rows)
    )


class LabelingActor:
    """What a spec in the object store starts: numpy arrays are shared by the actors of a node."""

    def __init__(self, spec: list[ray.ObjectRef], ledger: Any) -> None:
        with start_announced(ledger):
            self.labeler = ray.get(spec[0]).start()
        self.ledger, self.gate = ledger, Gate()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The chunks of a row, labeled; beside others unless their images must be watched."""
        chunks = unpacked(batch)
        with attempts(self.ledger, "label", pieces(chunks)) as attempt:
            return packed([self.label(chunk, attempt) for chunk in chunks])

    def label(self, chunk: Chunk, attempt: Attempt) -> Chunk:
        """The chunk, labeled. Ends its process where the GPU is lost.

        Ray then starts another and tries again, the ledger counts the death.
        """
        with attempt(chunk.unit, chunk.number) as watch, self.gate.entered(alone=watch.one_by_one):
            try:
                return self.labeler(chunk, watch)
            except DeviceLost as error:
                print(f"scclip: the GPU is lost ({error}); this actor starts anew", file=sys.stderr, flush=True)
                os._exit(1)


def read_stage(
    batch: pa.Table, limits: ChunkLimits, files: RunFiles, truth: str | None, ledger: Any
) -> Iterator[pa.Table]:
    """A group of units → the chunks of each that are not done, then its end; small chunks share a row."""

    work: list[tuple[Unit, set[int]]] = pickle.loads(batch["work"][0].as_py())

    def chunks() -> Iterator[Chunk]:
        with attempts(ledger, "read", [(unit.number, 0) for unit, _ in work]) as attempt:
            for unit, done in work:
                with attempt(unit.number, 0) as watch:
                    careful = watch if watch.one_by_one else None
                    resume = resume_after(files, unit.number, done)
                    yield from watch.clock.through(read_unit(unit, limits, done, resume, truth, careful))

    yield from map(packed, together(chunks(), limits))


def decode_stage(batch: pa.Table, config: DecodeConfig, ledger: Any) -> pa.Table:
    """Chunks of encoded images → of RGB arrays."""
    chunks, decoded = unpacked(batch), list[Chunk]()
    with attempts(ledger, "decode", pieces(chunks)) as attempt:
        for chunk in chunks:
            with attempt(chunk.unit, chunk.number) as watch:
                decoded.append(decode_chunk(chunk, config, watch))
    return packed(decoded)


def pieces(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    """Unit and number of each chunk, as the ledger knows them."""
    return [(chunk.unit, chunk.number) for chunk in chunks]


def commit_stage(batch: pa.Table, files: RunFiles, write: Commit, ledger: Any) -> pa.Table:
    """Commits the labeled chunks of a row and tells what became of them. The end of a unit is passed on."""
    chunks = unpacked(batch)
    with attempts(ledger, "commit", pieces([chunk for chunk in chunks if not chunk.last])) as attempt:
        outcomes = [commit_one(chunk, files, write, attempt) for chunk in chunks]
    return to_row(table_of(outcomes, OUTCOME_SCHEMA))


def commit_one(chunk: Chunk, files: RunFiles, write: Commit, attempt: Attempt) -> Outcome:
    """Commits one chunk."""
    statuses = Counter[str]()
    if not chunk.last:
        with attempt(chunk.unit, chunk.number):
            part = write(chunk, files)
        statuses.update(part["status"].to_pylist())
        for status, images in statuses.items():
            count("scclip_images_total", images, status=status)
        count("scclip_windows_total", pc.sum(part["windows"]).as_py() or 0)
    resume = chunk.resume.to_json() if chunk.resume else None
    return Outcome(chunk.unit, chunk.number, chunk.last, statuses.total(), statuses[Status.OK], resume)


def label_units(units: Sequence[Unit], job: LabelJob, ledger: Any = None) -> Iterator[Outcome]:
    """Runs the graph; yields outcomes as chunks are committed, having finished every unit when it ends.

    `ledger` (ledger.running_ledger) counts deaths and retries; without one the run has its own. Raises what Ray raises
    when a stage fails for good; everything committed until then is kept.
    """
    configure_ray_data(job.resources)
    with contextlib.nullcontext(ledger) if ledger else running_ledger() as ledger:
        tracker, graph = UnitTracker(job, ledger), build_graph(units, job, ledger)
        for batch in graph.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            outcomes = list(records_of(from_row(batch), Outcome))
            for outcome in outcomes:
                tracker.add(outcome)
            tracker.start()
            yield from outcomes
        tracker.close()


class UnitTracker:
    """Knows which chunks of which units are committed; starts the finishing of a unit whose parts are complete."""

    def __init__(self, job: LabelJob, ledger: Any) -> None:
        self.job, self.ledger = job, ledger
        self.present = defaultdict(set, {unit: set(chunks) for unit, chunks in job.done.items()})
        self.expected: dict[int, int] = {}
        self.complete: list[tuple[int, int]] = []
        self.running: list[ray.ObjectRef] = []
        self.finish = ray.remote(num_cpus=0, max_retries=-1, scheduling_strategy="SPREAD")(finish_stage)

    def add(self, outcome: Outcome) -> None:
        """Takes note of an outcome."""
        if outcome.last:
            self.expected[outcome.unit] = outcome.chunk
        else:
            self.present[outcome.unit].add(outcome.chunk)
        expected = self.expected.get(outcome.unit)
        if expected is not None and self.present[outcome.unit] >= set(range(expected)):
            del self.expected[outcome.unit], self.present[outcome.unit]
            self.complete.append((outcome.unit, expected))

    def start(self) -> None:
        """Has one task finish the units that are complete by now; waits only while too many are at work."""
        if self.complete:
            self.running.append(self.finish.remote(self.complete, self.job.files, self.job.finish, self.ledger))
            self.complete = []
        self.collect(FINISHING)

    def collect(self, leave: int) -> None:
        """Waits until at most `leave` tasks are finishing units; raises what they raise."""
        while len(self.running) > leave:
            ready, self.running = ray.wait(self.running, num_returns=1)
            ray.get(ready)

    def close(self) -> None:
        """Waits for the last units; an AssertionError if a unit's chunks did not all arrive."""
        self.collect(0)
        if self.expected:
            raise AssertionError(f"units {sorted(self.expected)} ended without all their chunks")


def finish_stage(units: Sequence[tuple[int, int]], files: RunFiles, finish: Finish, ledger: Any) -> None:
    """The job's `finish` for units, each with the number of its parts, as a task that returns nothing."""
    with attempts(ledger, "finish", [(unit, 0) for unit, _ in units]) as attempt:
        for unit, chunks in units:
            with attempt(unit, 0):
                finish(unit, chunks, files)
