"""Checks before a job begins: do all nodes see the storage, is there room for an actor and what feeds it.

check_storage(output, samples=[units[0].url])   # StorageProblem: a node does not see what this one writes
wait_for_room(resources, minutes=15, report=print)
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Sequence

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scclip.pipeline.cluster.nodes import RayNode, living_nodes
from scclip.pipeline.cluster.resources import NoResources, Resources, StorageProblem
from scclip.pipeline.cluster.silence import Reminder
from scclip.pipeline.cluster.waiting import in_use
from scclip.pipeline.storage.files import create, exists, is_local, join, remove
from scclip.pipeline.storage.retries import StorageUnavailable, describe, redact
from scclip.wording import counted

PROBE_SECONDS = 180.0  # a node may take so long to start a process that looks
READY_SECONDS = 3.0  # in which a group has its place where there is room
MOST_NODES = 64  # that look; the others are taken to be like them


def check_storage(output: str, samples: Sequence[str], *, write: bool = True) -> None:
    """Writes a probe file below `output` and lets every node look for it and for samples of the input.

    Args:
        output: folder of the run.
        samples: URLs of input files; those that this process does not see are not looked for.
        write: False looks for the samples only.

    Raises:
        StorageProblem: a node does not see a file, or the probe cannot be written.
    """
    nodes = living_nodes()
    probes = [join(output, "_preflight", uuid.uuid4().hex)] if write else []
    try:
        for probe in probes:
            create(probe, b"seen by every node?")
    except StorageUnavailable:
        raise
    except OSError as error:
        problem = f"OUTPUT {redact(output)} cannot be written: {describe(error)}"
        raise StorageProblem(f"{problem}; check URL and rights") from None
    try:
        unseen = problems_here(samples)
        wanted = [*probes, *(url for url in samples if url not in unseen)]
        problems = problems_on_nodes(nodes[:MOST_NODES], wanted)
    finally:
        remove(probes, prune=True)
    for url, by_node in problems.items():
        if by_node:
            raise StorageProblem(explain(output if url in probes else url, url in probes, by_node, len(nodes)))


def problems_on_nodes(nodes: Sequence[RayNode], urls: Sequence[str]) -> dict[str, dict[str, str]]:
    """URL → address of the node → why it does not see the URL; nodes that are lost meanwhile are left out."""
    look = ray.remote(num_cpus=0, max_retries=0)(problems_here)
    addresses = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        addresses[look.options(scheduling_strategy=there).remote(list(urls))] = node["NodeManagerAddress"]
    done, _ = ray.wait(list(addresses), num_returns=len(addresses), timeout=PROBE_SECONDS)
    problems: dict[str, dict[str, str]] = {url: {} for url in urls}
    for reference in done:
        with contextlib.suppress(ray.exceptions.RayError):
            for url, problem in ray.get(reference).items():
                problems[url][addresses[reference]] = problem
    return problems


def problems_here(urls: Sequence[str]) -> dict[str, str]:
    """URL → why this node does not see it."""
    problems = {}
    for url in urls:
        try:
            if not exists(url):
                problems[url] = "not there"
        except OSError as error:
            problems[url] = describe(error)
    return problems


def explain(url: str, output: bool, by_node: dict[str, str], nodes: int) -> str:
    """One line on what some nodes do not see.

    Args:
        url: the folder of the run, or a file of the input.
        output: True for the folder of the run.
        by_node: address of the node → why it does not see it.
        nodes: number of nodes in the cluster.
    """
    names = ", ".join(sorted(by_node)[:4]) + (", …" if len(by_node) > 4 else "")
    reason = next(iter(by_node.values()))
    unseen = f"OUTPUT {redact(url)}: what one node writes" if output else f"input {redact(url)}"
    remedy = "give a bucket, or a folder that all nodes share" if is_local(url) else "give every node the credentials"
    return f"{unseen} is not seen by {len(by_node)} of {counted(nodes, 'node')} ({names}: {reason}); {remedy}"


def wait_for_room(resources: Resources, minutes: float, report: Callable[[str], None]) -> bool:
    """Waits until the fewest actors, and the reading and decoding for them, fit into what nobody uses.

    A placement group asks for all of it at once: one that waits is what an autoscaler starts nodes for. It is removed
    when it has its place, which the job's own actors and tasks then take.

    Args:
        resources: what `divide` returned.
        minutes: how long to wait for a node that could hold an actor; for one that is in use, as long as it takes.
        report: takes the lines that tell the user why the job waits.

    Returns:
        True where it waited, False where there was room at once.

    Raises:
        NoResources: no such node came up in time.
    """
    stages = {"CPU": resources.read_cpus + resources.decode_cpus}
    group = placement_group([resources.actor] * resources.min_actors + [stages])
    try:
        if group.wait(READY_SECONDS):
            return False
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in resources.actor.items())
        none = f"no node holds an actor ({wanted}) yet"
        if not fits(resources):
            report(f"{none}; asked the autoscaler for one, waiting up to {minutes:g} min")
        until, reminder = time.monotonic() + 60 * minutes, Reminder(report)
        while not group.wait(1):
            reminder.due(lambda: in_use() if fits(resources) else f"{none}; {in_use()}")
            if time.monotonic() > until and not fits(resources):
                remedy = "the node types' limits and quotas, or give --wait-for-resources more minutes"
                raise NoResources(f"no node with {wanted} came up in {minutes:g} min; see `ray status`, {remedy}")
        return True
    finally:
        remove_placement_group(group)


def fits(resources: Resources) -> bool:
    """True where one actor fits a node that nobody else uses."""
    wanted = resources.actor
    return any(all(node["Resources"].get(name, 0) >= wanted[name] for name in wanted) for node in living_nodes())
