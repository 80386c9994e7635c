"""Spot machines with fallback: chooses the node type that Ray's autoscaler starts next (see cluster.yaml).

RAY_AUTOSCALER_UTILIZATION_SCORER=scclip.pipeline.cluster.spot.prefer_available ray start --head …

Ray's own scorer forgets that a launch failed and asks for the same spot type for ever. Of types with equal scores Ray
takes the last by name: `gpu-spot` comes before `gpu-on-demand` while it can be launched.
"""

from numbers import Real
from typing import Any

from scclip.pipeline.cluster.nodes import private


def prefer_available(
    node_resources: dict[str, Real], resources: list[dict[str, Real]], node_type: str, *, node_availability_summary: Any
) -> tuple[Any, ...] | None:
    """Scores a node type: Ray's own score, with a type whose last launch failed below the others.

    Args:
        node_resources: what one node of the type has.
        resources: what the waiting tasks and actors want.
        node_type: name of the type in cluster.yaml.
        node_availability_summary: Ray's record of launches.

    Returns:
        The score as a tuple, compared by its first items first; None where nothing fits the type.
    """
    ray_score = private("ray.autoscaler._private.resource_demand_scheduler", "_default_utilization_scorer")
    score = ray_score(node_resources, resources, node_type, node_availability_summary=node_availability_summary)
    if score is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return score[0], record is None or record.is_available, *score[1:]
