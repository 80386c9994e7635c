"""The nodes of a Ray cluster: those that live, and those that its autoscaler may add.

resources = divide(compute, nodes=shapes(living_nodes()), more=nodes_to_come())
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.experimental.internal_kv import _internal_kv_get  # where the autoscaler reports; `ray status` reads it so, too

from scclip.pipeline.cluster.resources import Shape

STATUS_KEY = "__autoscaling_status"
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves the cluster's description on the head node
STATIC_TYPE = "node_"  # how Ray names the types of nodes that somebody started by hand
MOST_OF_A_TYPE = 1000  # nodes counted of a type without limit


def living_nodes() -> list[dict[str, Any]]:
    """Ray's descriptions of the nodes that are up."""
    return [node for node in ray.nodes() if node["Alive"]]


def shapes(nodes: Sequence[dict[str, Any]]) -> list[Shape]:
    """CPUs and GPUs of nodes."""
    return [Shape(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in nodes]


def nodes_to_come() -> list[Shape] | None:
    """What the autoscaler may start beside the living nodes; None without one, [] where it does not tell."""
    if not autoscales():
        return None
    types = described_types()
    up = shapes(living_nodes())
    found = []
    for shape, most in types:
        found += [shape] * max(0, min(most, MOST_OF_A_TYPE) - up.count(shape))
    return found if found or not types else list(dict.fromkeys(shape for shape, _ in types))


def autoscales() -> bool:
    """Whether an autoscaler runs that can start nodes."""
    if described_types():
        return True
    report = json.loads(_internal_kv_get(STATUS_KEY) or b"{}").get("autoscaler_report") or {}
    names = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
    return any(not name.startswith(STATIC_TYPE) for name in names)


def described_types() -> list[tuple[Shape, int]]:
    """(shape, most nodes) of the worker types, where `ray up` described them on this machine."""
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
        types, head = config["available_node_types"], config.get("head_node_type")
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    workers = [entry for name, entry in types.items() if name != head]
    return [(type_shape(entry), int(entry.get("max_workers", config.get("max_workers", 0)))) for entry in workers]


def type_shape(entry: dict[str, Any]) -> Shape:
    """CPUs and GPUs of a node type of a cluster.yaml; Ray fills them in for AWS's instance types."""
    resources = entry.get("resources") or {}
    return Shape(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
