"""Which share of the cluster every stage gets.

resources = divide(ComputeConfig(actors="1:4"), nodes=[Shape(8, 1)])
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scclip.errors import JobFailed, UserError

READ_CPUS, DECODE_CPUS, COMMIT_CPUS = 0.45, 0.5, 0.25  # equal shares would be fused into one task; 0.8 are left of 2
CALLS_ON_GPU = 2  # two calls in flight keep a GPU busy (84 % → 99 % measured with 50 ms calls)


MOST_CPUS_OF_A_GPU_ACTOR = 1.0  # it feeds its GPU; decoding needs the others
LEAST_ACTOR_CPUS = 0.05
UNKNOWN_CPUS = 2.0  # taken for nodes that an autoscaler has yet to start and does not describe


class ResourceError(UserError):
    """The cluster cannot hold what was asked for; the message says what would fit."""


class StorageProblem(UserError):
    """Nodes do not see the output or an input; one line that names them and the remedy."""


class NoResources(JobFailed):
    """No node that holds an actor came up in time."""


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
            raise ValueError(f"wait_for_resources {self.wait_for_resources} must be 0 or more minutes")
        if self.gpus_per_actor is not None and not 0 <= self.gpus_per_actor <= 1:
            raise ValueError(
                f"gpus_per_actor {self.gpus_per_actor} must be 0 (CPU), a fraction such as 0.5, or 1: a model fills one"
            )

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
    """What `divide` found."""

    min_actors: int
    max_actors: int
    fitting: int
    """Actors that the living nodes hold; 0: nodes have to come up first."""
    gpus_per_actor: float
    actor_cpus: float
    threads: int
    """Threads of an actor on the CPU; the job's OMP_NUM_THREADS wins."""
    calls_in_flight: int
    spare_cpus: float
    """CPUs of the living nodes that the fitting actors leave to reading, decoding and committing."""
    mixed: bool = False
    """Nodes without GPU stand beside those with: they get the CPU work first."""
    read_cpus: float = READ_CPUS
    decode_cpus: float = DECODE_CPUS
    commit_cpus: float = COMMIT_CPUS

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return "cuda" if self.gpus_per_actor else "cpu"

    @property
    def actor(self) -> dict[str, float]:
        """What one actor asks of its node, in Ray's words."""
        return {"CPU": self.actor_cpus} | ({"GPU": self.gpus_per_actor} if self.gpus_per_actor else {})


def divide(config: ComputeConfig, *, nodes: Shapes, more: Shapes | None = None) -> Resources:
    """Shares for a cluster; ResourceError where an actor fits no node, or the fewest actors not all nodes together.

    Args:
        nodes: the living ones.
        more: those that an autoscaler may add; None: there is no autoscaler; empty: it does not tell.
    """
    every = [*nodes, *(more or ())]
    gpus = config.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if any(node.gpus for node in every) else 0.0
    largest = max((node.cpus for node in every), default=0.0) or (UNKNOWN_CPUS if more is not None else 0.0)
    if not largest:
        raise ResourceError("the cluster has no CPUs; start Ray with --num-cpus on at least one node")
    scale = min(1.0, largest / 2)  # a machine of one core halves every share
    parts = on_gpus(config, gpus, nodes, more) if gpus else on_cpus(config, scale, nodes, more)
    return Resources(
        gpus_per_actor=gpus,
        spare_cpus=max(0.0, sum(node.cpus for node in nodes) - parts["fitting"] * parts["actor_cpus"]),
        read_cpus=READ_CPUS * scale,
        decode_cpus=DECODE_CPUS * scale,
        commit_cpus=COMMIT_CPUS * scale,
        **parts,
    )


def on_gpus(config: ComputeConfig, share: float, nodes: Shapes, more: Shapes | None) -> dict[str, Any]:
    """Actors of `share` GPUs each."""
    every = [*nodes, *(more or ())]
    now, later = (sum(int(node.gpus / share + 1e-9) for node in some) for some in (nodes, every))
    if not later and not unknown(more):
        most = max((node.gpus for node in every), default=0)
        raise ResourceError(f"an actor wants {share:g} GPUs, the largest node has {most:g}; lower --gpus-per-actor")
    least, most_actors = config.pool_size(max(1, now), max(1, later))
    if least > later and not unknown(more):
        gpus = sum(node.gpus for node in every)
        raise ResourceError(f"{least} actors of {share:g} GPUs do not fit {gpus:g} GPUs; lower --actors")
    cpus = [node.cpus / max(1, int(node.gpus / share + 1e-9)) for node in every if node.gpus >= share]
    return {
        "min_actors": least,
        "max_actors": most_actors,
        "fitting": now,
        "actor_cpus": floor2(min([MOST_CPUS_OF_A_GPU_ACTOR, *(each / 4 for each in cpus)])),
        "threads": 0,
        "calls_in_flight": CALLS_ON_GPU,
        "mixed": any(node.gpus for node in every) and any(node.cpus and not node.gpus for node in every),
    }


def on_cpus(config: ComputeConfig, scale: float, nodes: Shapes, more: Shapes | None) -> dict[str, Any]:
    """Actors on the CPU: one a node by default, each as much of it as the other stages leave."""
    beside = scale * (READ_CPUS + DECODE_CPUS + COMMIT_CPUS)
    sizes = [node.cpus for node in [*nodes, *(more or ())] if node.cpus] or [UNKNOWN_CPUS]
    least, most = config.pool_size(max(1, sum(1 for node in nodes if node.cpus)), len(sizes))
    actor = largest_actor([size - beside for size in sizes], least if unknown(more) else most)
    if actor < LEAST_ACTOR_CPUS:
        total = sum(sizes)
        fit = max(1, sum(int((size - beside) / LEAST_ACTOR_CPUS) for size in sizes if size > beside))
        raise ResourceError(f"{most} actors do not fit {total:g} CPUs; use --actors {fit} at most")
    beside_it = max(1, int((max(sizes) - beside) / actor + 1e-9))
    if len(sizes) > 1 or more is not None:
        actor = no_room_for_another(actor, max(sizes), beside_it, scale)
    return {
        "min_actors": least,
        "max_actors": most,
        "fitting": sum(int(node.cpus / actor + 1e-9) for node in nodes),
        "actor_cpus": actor,
        "threads": max(1, int(max(sizes) / beside_it)),
        "calls_in_flight": 1,
    }


def largest_actor(rooms: Sequence[float], actors: int) -> float:
    """The largest share of which so many fit the rooms, 0 where there is none."""
    rooms = [room for room in rooms if room > 0]
    shares = {floor2(room / count) for room in rooms for count in range(1, actors + 1)} - {0.0}
    fits = (share for share in shares if sum(int(room / share + 1e-9) for room in rooms) >= actors)
    return max(fits, default=0.0)


def no_room_for_another(actor: float, size: float, count: int, scale: float) -> float:
    """A larger share, where small nodes would hold one actor more than meant once others are lost, and no reading."""
    larger = floor2(size / (count + 1) + 0.01)
    leaves = size - count * larger >= scale * (READ_CPUS + DECODE_CPUS)
    return max(actor, larger) if leaves else actor


def unknown(more: Shapes | None) -> bool:
    """Whether an autoscaler may add nodes of which nothing is known."""
    return more is not None and not more


def floor2(value: float) -> float:
    """Two decimals, rounded down: Ray counts in ten-thousandths, and sums must not exceed a node."""
    return int(value * 100 + 1e-9) / 100
