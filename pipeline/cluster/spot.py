"""Spot with fallback: which node type Ray's autoscaler starts next (in the head's monitor process, cluster.yaml).

RAY_AUTOSCALER_UTILIZATION_SCORER=scclip.pipeline.cluster.spot.prefer_available ray start --head …

Ray's own scorer forgets that a launch failed and asks for the same spot type for ever. Of equal types Ray takes the
last by name: `gpu-spot` comes before `gpu-on-demand` as long as it is to be had.
"""

from typing import Any

from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def prefer_available(
    node_resources: dict[str, Any],
    resources: list[dict[str, Any]],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Ray's own score, and above it whether the type's last launch succeeded; None where nothing fits."""
    score = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if score is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return score[0], record is None or record.is_available, *score[1:]
