"""Takes what a job needs on a shared cluster all at once or not at all: its actors and the stages that feed them.

    resources = reserved(compute, Reminder(print, FIRST_REMINDER))

Jobs that took one actor after the other would hold what the stages of the next one need, and wait for each other for
ever. A placement group holds the free CPUs and GPUs of as many nodes as the actors want; all tasks run inside it.
"""

import contextlib
import dataclasses
import time
from collections.abc import Sequence

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from scclip.pipeline.cluster.nodes import RayNode, free_nodes, shapes
from scclip.pipeline.cluster.resources import ComputeConfig, ResourceError, Resources, divide, fitting_on
from scclip.pipeline.cluster.waiting import Reminder, in_use

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
            group = placement_group(bundles(resources, nodes), strategy="SPREAD")
            if group.wait(READY_SECONDS):
                return dataclasses.replace(resources, group=group)
            remove_placement_group(group)
        reminder.due(lambda: f"{in_use({})}; the job begins when enough of them are free")
        time.sleep(LOOK_SECONDS)


def bundles(resources: Resources, nodes: Sequence[RayNode]) -> list[dict[str, float]]:
    """What is taken of each node: all that is free, of the nodes with most room, until they hold all actors."""
    rooms = sorted(nodes, key=lambda node: fitting_on(shapes([node])[0], resources), reverse=True)
    taken, left = [], resources.max_actors
    for node in rooms:
        shape = shapes([node])[0]
        actors = min(left, fitting_on(shape, resources))
        if not actors:
            break
        left -= actors
        gpus = {"GPU": min(shape.gpus, actors * resources.gpus_per_actor)} if resources.gpus_per_actor else {}
        taken.append({"CPU": shape.cpus, **gpus})  # with object_store_memory, Ray 2.60's raylet dies when it is removed
    return taken


def give_back(group: PlacementGroup) -> None:
    """Removes the group of `reserved`."""
    remove_placement_group(group)
