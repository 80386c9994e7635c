"""Small units share a task: a thousand of them cost what a few large ones do.

for group in grouped(units, tasks=2): ...     # each the work of one task; 2 of them run at the same time
"""

from collections.abc import Iterator, Sequence

from scclip.pipeline.inputs.units import Unit

GROUP_BYTES, GROUP_IMAGES = 64 * 2**20, 1000  # of the units that one task reads
LEAST_IMAGES = 10  # taken for a shard, of which the plan knows the bytes alone
GROUPS_PER_TASK = 16  # at least, where there are so many units: the others must not wait for one task


def grouped(units: Sequence[Unit], tasks: int = 1) -> Iterator[list[Unit]]:
    """The units in order, small ones together: up to 64 MiB or about 1,000 images, less where tasks would wait."""
    weights = [max(unit.size / GROUP_BYTES, max(len(unit.files), LEAST_IMAGES) / GROUP_IMAGES) for unit in units]
    most = min(1.0, sum(weights) / (GROUPS_PER_TASK * tasks))
    group, weight = list[Unit](), 0.0
    for unit, own in zip(units, weights, strict=True):
        if group and weight + own > most:
            yield group
            group, weight = [], 0.0
        group.append(unit)
        weight += own
    if group:
        yield group
