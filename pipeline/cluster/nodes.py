"""The nodes of a Ray cluster: those that are up, and those that its autoscaler may add.

resources = divide(compute, nodes=shapes(living_nodes()), more=nodes_to_come())
"""

import importlib
import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import ray
import yaml

from scclip.errors import UserError
from scclip.pipeline.cluster.resources import Shape

GCS_RECORDS = "ray.core.generated.gcs_pb2"
STATUS_KEY = "__autoscaling_status"
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves the cluster's description on the head node
STORE = "object_store_memory"
STATIC_TYPE = "node_"  # how Ray names the types of nodes that somebody started by hand
MOST_OF_A_TYPE = 1000  # nodes counted of a type without limit


class RayNode(TypedDict):
    """What is read of Ray's description of a node."""

    NodeID: str
    NodeManagerAddress: str
    Resources: dict[str, float]


def living_nodes() -> list[RayNode]:
    """The nodes that are up."""
    return [node for node in ray.nodes() if node["Alive"]]


def private(module: str, name: str) -> Any:
    """A name that Ray does not promise to keep; UserError where this Ray has none of it."""
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError):
        what = f"Ray {ray.__version__} has no {module}.{name}, which this version of scclip needs"
        raise UserError(f"{what}; install the Ray that `pip install scclip` chooses") from None


def free_nodes() -> list[RayNode]:
    """The nodes that are up, with what nobody uses of them: whole CPUs, unless a node has less than one."""
    available = private("ray._private.state", "available_resources_per_node")()
    return [{**node, "Resources": free_of(node, available.get(node["NodeID"], {}))} for node in living_nodes()]


def free_of(node: RayNode, available: dict[str, float]) -> dict[str, float]:
    """What is free of a node: its CPUs rounded down, and of its object store the same share as of its CPUs.

    A task's share of a CPU that is over in a moment counts as used.
    """
    cpus, total = available.get("CPU", 0.0), node["Resources"].get("CPU", 0.0)
    cpus = float(int(cpus)) if total >= 1 else cpus * (cpus >= total)
    store = node["Resources"].get(STORE, 0.0) * cpus / (total or 1)
    return {**available, "CPU": cpus, STORE: float(int(store))}


def workers_killed_for_memory() -> int:
    """Worker processes that Ray's memory monitor has killed, of all jobs since the cluster began."""
    accessor = private("ray._private.state", "state._connect_and_get_accessor")()
    records, table = accessor.get_worker_table(), private(GCS_RECORDS, "WorkerTableData")
    out_of_memory = private("ray.core.generated.common_pb2", "NODE_OUT_OF_MEMORY")
    return sum(table.FromString(record).exit_type == out_of_memory for record in records)


def shapes(nodes: Sequence[RayNode]) -> list[Shape]:
    """CPUs and GPUs of each node."""
    return [Shape(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in nodes]


def nodes_to_come() -> list[Shape] | None:
    """The nodes that the autoscaler may still start; None where there is no autoscaler, [] where it does not tell."""
    types = described_types()
    if not types:
        read = private("ray.experimental.internal_kv", "_internal_kv_get")  # as `ray status` reads the report
        report = json.loads(read(STATUS_KEY) or b"{}").get("autoscaler_report") or {}
        names = [*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})]
        return None if all(name.startswith(STATIC_TYPE) for name in names) else []
    up = shapes(living_nodes())
    more = [shape for shape, most in types for _ in range(min(most, MOST_OF_A_TYPE) - up.count(shape))]
    return more or list(dict.fromkeys(shape for shape, _ in types))


def described_types() -> list[tuple[Shape, int]]:
    """(shape, most nodes) of each worker type in the file that `ray up` leaves on the head node; [] without it.

    Ray fills in the resources of AWS's instance types, where the user gives none.
    """
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
        types, head = config["available_node_types"], config.get("head_node_type")
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    described = []
    for entry in (entry for name, entry in types.items() if name != head):
        resources = entry.get("resources") or {}
        shape = Shape(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
        described.append((shape, int(entry.get("max_workers", config.get("max_workers", 0)))))
    return described
