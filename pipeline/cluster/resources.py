"""Divides the CPUs and GPUs of a cluster between the stages.

resources = divide(ComputeConfig(actors="1:4"), nodes=[Shape(8, 1)])
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scclip.errors import JobFailed, UserError
from scclip.wording import counted

READ_CPUS, DECODE_CPUS, COMMIT_CPUS = 0.45, 0.5, 0.25  # equal shares would be fused into one task; 0.8 are left of 2
CALLS_ON_GPU = 3  # one on the GPU, one whose maps are stored, one whose images are fetched


MOST_CPUS_OF_A_GPU_ACTOR = 1.0  # it feeds its GPU; decoding needs the others
LEAST_ACTOR_CPUS = 0.05
GROWING = 2 / 3  # share of the possible CPUs that an actor asks for where the pool is to grow
UNKNOWN_CPUS = 2.0  # taken for nodes that an autoscaler has yet to start and does not describe


class ResourceError(UserError):
    """The cluster cannot hold what was asked for; the message says what would fit."""


class StorageProblem(UserError):
    """Some nodes cannot see the output or an input; one line that names them and the remedy."""


class NoResources(JobFailed):
    """No node that can hold an actor came up in time."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Actors and what each of them gets. Labels do not depend on it."""

    actors: str = field(default="", metadata={"travels": "word"})
    """MIN[:MAX] labeling actors [one per GPU; without GPUs one per node]."""
    gpus_per_actor: float | None = None
    """GPU of one actor: 0, 1 or a fraction for several on one [1 where the cluster has a GPU, else 0]."""
    wait_for_resources: float = 15.0
    """Minutes to wait for an autoscaling cluster to bring up the first node that holds an actor."""

    def __post_init__(self) -> None:
        if self.actors:
            self.pool_size(1, 1)
        if self.wait_for_resources < 0:
            raise ValueError(f"wait_for_resources is {self.wait_for_resources}; give 0 or more minutes")
        gpus = self.gpus_per_actor
        if gpus is not None and not 0 <= gpus <= 1:
            raise ValueError(f"gpus_per_actor {gpus} must be 0 (CPU), a fraction such as 0.5, or 1: a model fills one")

    def pool_size(self, least: int, most: int) -> tuple[int, int]:
        """Fewest and most actors, these by default; ValueError where `actors` is no MIN[:MAX]."""
        if not self.actors:
            return least, most
        numbers = self.actors.split(":")
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"actors {self.actors!r} must be MIN or MIN:MAX, e.g. 4 or 1:8")
        least, most = int(numbers[0]), int(numbers[-1])
        if not 1 <= least <= most:
            raise ValueError(f"actors {self.actors!r} must count from 1 up, e.g. 1:8")
        return least, most


@dataclass(frozen=True)
class Shape:
    """One node of a cluster."""

    cpus: float
    gpus: float = 0.0


Shapes = Sequence[Shape]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Actors, and the share of the cluster that each stage gets."""

    min_actors: int
    max_actors: int
    fitting: int
    """Actors that the living nodes hold; 0: nodes have to come up first."""
    gpus_per_actor: float = 0.0
    actor_cpus: float
    threads: int
    """Threads of an actor on the CPU; the job's OMP_NUM_THREADS wins."""
    calls_in_flight: int
    spare_cpus: float = 0.0
    """CPUs of the living nodes that the fitting actors leave to reading, decoding and committing."""
    mixed: bool = False
    """There are nodes with and without GPUs: those without get the CPU work first."""
    read_cpus: float = READ_CPUS
    decode_cpus: float = DECODE_CPUS
    commit_cpus: float = COMMIT_CPUS
    group: Any = None
    """Ray's placement group in which everything runs; None: wherever there is room."""

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return "cuda" if self.gpus_per_actor else "cpu"

    @property
    def actor(self) -> dict[str, float]:
        """What one actor asks of its node, in Ray's words."""
        return {"CPU": self.actor_cpus} | ({"GPU": self.gpus_per_actor} if self.gpus_per_actor else {})


def divide(config: ComputeConfig, *, nodes: Shapes, more: Shapes | None = None) -> Resources:
    """Divides a cluster between the actors and the other stages.

    Args:
        config: what the user asks for.
        nodes: the living nodes.
        more: nodes that an autoscaler may add; None: there is no autoscaler; empty: it does not tell.

    Raises:
        ResourceError: an actor fits no node, or the fewest actors do not fit all nodes together.
    """
    every = [*nodes, *(more or ())]
    gpus = float(any(node.gpus for node in every)) if config.gpus_per_actor is None else config.gpus_per_actor
    largest = max((node.cpus for node in every), default=0.0) or (UNKNOWN_CPUS if more is not None else 0.0)
    if not largest:
        raise ResourceError("the cluster has no CPUs; start Ray with --num-cpus on at least one node")
    scale = min(1.0, largest / 2)  # a machine of one core halves every share
    resources = _on_gpus(config, gpus, nodes, more) if gpus else _on_cpus(config, scale, nodes, more)
    return dataclasses.replace(
        resources,
        gpus_per_actor=gpus,
        spare_cpus=max(0.0, sum(node.cpus for node in nodes) - resources.fitting * resources.actor_cpus),
        read_cpus=READ_CPUS * scale,
        decode_cpus=DECODE_CPUS * scale,
        commit_cpus=COMMIT_CPUS * scale,
    )


def _on_gpus(config: ComputeConfig, share: float, nodes: Shapes, more: Shapes | None) -> Resources:
    """Actors of `share` GPUs each."""
    every, unknown = [*nodes, *(more or ())], more is not None and not more
    now, later = (sum(_fitting(node.gpus, share) for node in group) for group in (nodes, every))
    if not later and not unknown:
        most = max((node.gpus for node in every), default=0)
        raise ResourceError(f"an actor wants {share:g} GPUs, the largest node has {most:g}; lower --gpus-per-actor")
    min_actors, max_actors = config.pool_size(max(1, now), max(1, later))
    if min_actors > later and not unknown:
        gpus = sum(node.gpus for node in every)
        raise ResourceError(
            f"too few GPUs ({gpus:g}) for {counted(min_actors, 'actor')} of {share:g} each; lower --actors"
        )
    cpus = [node.cpus / max(1, _fitting(node.gpus, share)) for node in every if node.gpus >= share]
    return Resources(
        min_actors=min_actors,
        max_actors=max_actors,
        fitting=now,
        actor_cpus=_floor2(min([MOST_CPUS_OF_A_GPU_ACTOR, *(each / 4 for each in cpus)])),
        threads=0,
        calls_in_flight=CALLS_ON_GPU,
        mixed=any(node.gpus for node in every) and any(node.cpus and not node.gpus for node in every),
    )


def _on_cpus(config: ComputeConfig, scale: float, nodes: Shapes, more: Shapes | None) -> Resources:
    """Actors on the CPU: by default one on each node, which gets what the other stages leave."""
    others = scale * (READ_CPUS + DECODE_CPUS + COMMIT_CPUS)
    sizes = [node.cpus for node in [*nodes, *(more or ())] if node.cpus] or [UNKNOWN_CPUS]
    min_actors, max_actors = config.pool_size(max(1, sum(1 for node in nodes if node.cpus)), len(sizes))
    unknown = more is not None and not more
    actor = _largest_actor([size - others for size in sizes], min_actors if unknown else max_actors)
    if actor < LEAST_ACTOR_CPUS:
        fit = max(1, sum(int((size - others) / LEAST_ACTOR_CPUS) for size in sizes if size > others))
        raise ResourceError(
            f"too few CPUs ({sum(sizes):g}) for {counted(max_actors, 'actor')}; use --actors {fit} at most"
        )
    per_node = max(1, _fitting(max(sizes) - others, actor))
    if min_actors < max_actors:  # Ray Data starts an actor that fits what is left when each stage has had a part of it
        actor = max(LEAST_ACTOR_CPUS, _floor2(GROWING * actor))
    if len(sizes) > 1 or more is not None:
        actor = _without_room_for_another(actor, max(sizes), per_node, scale)
    return Resources(
        min_actors=min_actors,
        max_actors=max_actors,
        fitting=sum(_fitting(node.cpus, actor) for node in nodes),
        actor_cpus=actor,
        threads=max(1, int(max(sizes) / per_node)),
        calls_in_flight=1,
    )


def _largest_actor(rooms: Sequence[float], actors: int) -> float:
    """The most CPUs of which so many actors fit the rooms, 0 where none fit."""
    rooms = [room for room in rooms if room > 0]
    shares = {_floor2(room / count) for room in rooms for count in range(1, actors + 1)} - {0.0}
    return max((share for share in shares if sum(_fitting(room, share) for room in rooms) >= actors), default=0.0)


def _without_room_for_another(actor: float, size: float, count: int, scale: float) -> float:
    """CPUs of an actor so that no more than `count` fit a node of `size`, unless that leaves no room to read.

    Otherwise a small node takes one more after others were lost, and nothing is left there to read for it.
    """
    larger = _floor2(size / (count + 1) + 0.01)
    leaves = size - count * larger >= scale * (READ_CPUS + DECODE_CPUS)
    return max(actor, larger) if leaves else actor


def _fitting(room: float, share: float) -> int:
    """How many shares fit a room."""
    return int(room / share + 1e-9)


def fitting_on(node: Shape, resources: Resources) -> int:
    """How many of the actors a node holds."""
    by_cpu = _fitting(node.cpus, resources.actor_cpus)
    return min(by_cpu, _fitting(node.gpus, resources.gpus_per_actor)) if resources.gpus_per_actor else by_cpu


def _floor2(value: float) -> float:
    """Two decimals, rounded down: Ray counts in ten-thousandths, and sums must not exceed a node."""
    return int(value * 100 + 1e-9) / 100
