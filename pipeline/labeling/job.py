"""What the labeling graph needs, and what comes out of it.

job = LabelJob(files=files, spec=spec, ..., commit=partial(commit_chunk, options=options), done=files.parts())
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import pyarrow as pa

from scclip.pipeline.annotations.schemas import schema_of
from scclip.pipeline.cluster.resources import Resources
from scclip.pipeline.inputs.chunks import Chunk, ChunkLimits, ResumePoint
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_chunk
from scclip.pipeline.inputs.readers.registry import READERS
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles

Commit = Callable[[Chunk, RunFiles], pa.Table]  # a labeled chunk → its part, written; a row an image, with `status`

Finish = Callable[[int, int, RunFiles], None]  # a unit and the number of its parts, all there → the unit's files


class ActorSpec(Protocol):
    """What travels to an actor: the model's weights, or a run whose labels are looked up."""

    def start(self) -> Callable[..., Chunk]:
        """The object that turns decoded chunks into labeled ones; its second argument, a `Watch`, may be left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """Everything the graph needs, apart from the units."""

    files: RunFiles
    """Where the run's files lie."""
    spec: ActorSpec
    """What an actor holds; `start` makes the object that turns decoded chunks into labeled ones."""
    resources: Resources
    """Actors and the share of the cluster that every stage gets."""
    limits: ChunkLimits
    """Where chunks close."""
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    """How images are decoded."""
    commit: Commit
    """Writes the part of a labeled chunk."""
    finish: Finish
    """Turns the parts of a unit into its files."""
    done: Mapping[int, set[int]] = field(default_factory=dict)
    """Chunks that have a part already, by unit, as listed before the job began."""
    truth: str | None = None
    """Extension or column of the ground truth that travels with its image; labeling reads none."""

    def run_here(self, units: Iterable[Unit]) -> Iterator[pa.Table]:
        """The same work in this process, without Ray and without resuming inside a unit; yields the parts."""
        label = self.spec.start()
        for unit in units:
            for chunk in read_unit(unit, self.limits, truth=self.truth):
                if chunk.last:
                    self.finish(unit.number, chunk.number, self.files)
                else:
                    yield self.commit(label(decode_chunk(chunk, self.decode)), self.files)


@dataclass(frozen=True)
class Outcome:
    """A committed chunk, or with `last` the end of its unit: a row that comes out of the graph."""

    unit: Annotated[int, pa.int32()]
    chunk: Annotated[int, pa.int32()]
    """Its number; for the end of a unit: how many chunks the unit has."""
    last: Annotated[bool, pa.bool_()]
    images: Annotated[int, pa.int32()]
    labeled: Annotated[int, pa.int32()]
    resume: Annotated[str | None, pa.string()] = None
    """The chunk's ResumePoint."""

    def fraction(self, unit: Unit) -> float:
        """Roughly how much of the unit is read after this chunk, 0 to 1."""
        point = ResumePoint.from_json(self.resume) if self.resume else None
        if self.last or point is None or point.end:
            return 1.0
        return READERS[unit.kind].fraction(unit, point)


OUTCOME_SCHEMA = schema_of(Outcome)
