"""Which share of the cluster every stage gets (DESIGN.md section 6, Resources).

resources = divide(ComputeConfig(actors="1:4"), cpus=8, gpus=1, nodes=1)
"""

from dataclasses import dataclass

READ_CPUS, DECODE_CPUS, COMMIT_CPUS = 0.45, 0.5, 0.25  # equal shares would be fused into one task; 0.8 are left of 2
CALLS_ON_GPU = 2  # two calls in flight keep a GPU busy (84 % → 99 % measured with 50 ms calls)


class ResourceError(ValueError):
    """The cluster cannot hold what was asked for; the message says what would fit."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Actors and what each of them gets. Labels do not depend on it."""

    actors: str = ""
    """MIN[:MAX] labeling actors; default one per GPU, or one on the CPU."""
    gpus_per_actor: float | None = None
    """GPUs of one actor, fractions allowed; default 1 where the cluster has a GPU, else 0."""

    def __post_init__(self) -> None:
        if self.actors:
            self.pool_size(0)
        if self.gpus_per_actor is not None and not 0 <= self.gpus_per_actor <= 64:
            raise ValueError(
                f"gpus_per_actor {self.gpus_per_actor} must be 0 (CPU), a fraction such as 0.5, or 1 and up"
            )

    def pool_size(self, default: int) -> tuple[int, int]:
        """Fewest and most actors; ValueError where `actors` is no MIN[:MAX]."""
        if not self.actors:
            return default, default
        numbers = self.actors.split(":")
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"actors {self.actors!r} must be MIN or MIN:MAX, e.g. 4 or 1:8")
        least, most = int(numbers[0]), int(numbers[-1])
        if not 1 <= least <= most:
            raise ValueError(f"actors {self.actors!r} must count from 1 up, e.g. 1:8")
        return least, most


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What `divide` found."""

    min_actors: int
    max_actors: int
    gpus_per_actor: float
    actor_cpus: float
    threads: int
    """Threads of an actor on the CPU; the job's OMP_NUM_THREADS wins."""
    calls_in_flight: int
    read_cpus: float = READ_CPUS
    decode_cpus: float = DECODE_CPUS
    commit_cpus: float = COMMIT_CPUS

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return "cuda" if self.gpus_per_actor else "cpu"


def divide(config: ComputeConfig, *, cpus: float, gpus: float, largest_node_cpus: float) -> Resources:
    """Shares for a cluster of so many CPUs and GPUs; ResourceError where the actors do not fit."""
    gpus_per_actor = config.gpus_per_actor if config.gpus_per_actor is not None else (1.0 if gpus else 0.0)
    if gpus_per_actor > gpus:
        raise ResourceError(f"an actor wants {gpus_per_actor:g} GPUs, the cluster has {gpus:g}; use --gpus-per-actor 0")
    least, most = config.pool_size(max(1, int(gpus / gpus_per_actor)) if gpus_per_actor else 1)
    scale = min(1.0, cpus / 2)  # a machine of one core halves every share
    shares = {"read_cpus": READ_CPUS * scale, "decode_cpus": DECODE_CPUS * scale, "commit_cpus": COMMIT_CPUS * scale}
    if gpus_per_actor:
        if least * gpus_per_actor > gpus:
            raise ResourceError(f"{least} actors of {gpus_per_actor:g} GPUs do not fit {gpus:g} GPUs; lower --actors")
        return Resources(
            min_actors=least,
            max_actors=most,
            gpus_per_actor=gpus_per_actor,
            actor_cpus=min(1.0, cpus / 4),
            threads=0,
            calls_in_flight=CALLS_ON_GPU,
            **shares,
        )
    rest = cpus - sum(shares.values())
    actor_cpus = int(rest / most * 100) / 100
    if actor_cpus < 0.05:
        raise ResourceError(f"{most} actors do not fit {cpus:g} CPUs; use --actors {max(1, int(rest / 0.05))} at most")
    threads = max(1, int(min(largest_node_cpus, cpus / most)))
    if actor_cpus > largest_node_cpus:
        actor_cpus = largest_node_cpus
    return Resources(
        min_actors=least,
        max_actors=most,
        gpus_per_actor=0.0,
        actor_cpus=actor_cpus,
        threads=threads,
        calls_in_flight=1,
        **shares,
    )
