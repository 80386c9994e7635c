"""Takes what a job needs on a shared cluster all at once or not at all: its actors and the stages that feed them.

    resources = reserved(compute, Reminder(print, FIRST_REMINDER))

Jobs that took one actor after the other would hold what the stages of the next one need, and wait for each other for
ever. A placement group holds the free CPUs and GPUs of as many nodes as the actors want; all tasks run inside it.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from scclip.pipeline.cluster.nodes import STORE, RayNode, free_nodes, shapes
from scclip.pipeline.cluster.resources import ComputeConfig, ResourceError, Resources, divide, fitting_on
from scclip.pipeline.cluster.silence import Reminder
from scclip.pipeline.cluster.waiting import in_use

READY_SECONDS = 10.0  # another job may have been faster; then it is looked again at what is free
LOOK_SECONDS = 1.0
FIRST_REMINDER = 5.0


def reserved(compute: ComputeConfig, reminder: Reminder) -> Resources:
    """Waits until the free part of the cluster holds the fewest actors, takes it, and divides it between the stages.

    Args:
        compute: what the user asks for; `divide` must have found that the whole cluster holds it.
        reminder: says from time to time what the job waits for.

    Returns:
        Resources with a `group`; removing that, or the end of this process, gives everything back.
    """
    while True:
        nodes = free_nodes()
        with contextlib.suppress(ResourceError):
            resources = divide(compute, nodes=shapes(nodes))
            taken = bundles(resources, nodes)
            group = placement_group([cpus_and_gpus(bundle) for bundle in taken], strategy="SPREAD")
            if group.wait(READY_SECONDS):
                return dataclasses.replace(resources, group=PlacementGroup(group.id, taken))
            remove_placement_group(group)
        reminder.due(lambda: f"{in_use({})}; the job begins when enough of them are free")
        time.sleep(LOOK_SECONDS)


def bundles(resources: Resources, nodes: Sequence[RayNode]) -> list[dict[str, float]]:
    """What is taken of the nodes with most room until they hold all actors: GPUs, and as large a share of what else
    is free as the actors have of those that fit."""
    rooms = sorted(nodes, key=lambda node: fitting_on(shapes([node])[0], resources), reverse=True)
    stages = resources.read_cpus + resources.decode_cpus + resources.commit_cpus
    taken, left = [], resources.max_actors
    for node in rooms:
        shape = shapes([node])[0]
        fitting = fitting_on(shape, resources)
        actors = min(left, fitting)
        if not actors:
            break
        left -= actors
        needed = actors * resources.actor_cpus + stages
        cpus = min(shape.cpus, max(needed, shape.cpus * actors / fitting))
        bundle = {"CPU": cpus, STORE: node["Resources"].get(STORE, 0.0) * cpus / shape.cpus}
        gpus = actors * resources.gpus_per_actor
        taken.append(bundle | ({"GPU": gpus if gpus < 1 else math.ceil(gpus)} if gpus else {}))  # Ray wants whole ones
    return taken


def cpus_and_gpus(bundle: Mapping[str, float]) -> dict[str, float]:
    """A bundle without its object store: Ray 2.60's raylet dies when a group that holds some of it is removed.

    That Ray Data knows how much its blocks may take, it is told of the bundle as a whole.
    """
    return {name: amount for name, amount in bundle.items() if name != STORE}


def give_back(group: PlacementGroup) -> None:
    """Removes the group of `reserved`."""
    remove_placement_group(group)
