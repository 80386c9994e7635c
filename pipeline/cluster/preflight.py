"""What can be known to fail before a job begins, found on every node at once.

check_storage(output, samples=[units[0].url])   # StorageProblem: a node does not see what this one writes
wait_for_actor(resources, minutes=15, say=print)
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scclip.pipeline.cluster.nodes import living_nodes
from scclip.pipeline.cluster.resources import NoResources, Resources, StorageProblem
from scclip.pipeline.storage.files import create, exists, is_local, join, remove
from scclip.pipeline.storage.retries import StorageUnavailable, describe, redact

PROBE_SECONDS = 180.0  # a node may take to start a process that looks
MOST_NODES = 64  # looked at: the others are taken to be like them


def check_storage(output: str, samples: Sequence[str], *, write: bool = True) -> None:
    """Writes a probe file below `output` and lets every node look for it and for the samples of the input.

    A cluster of one node is not asked. Without `write` only the samples are looked for. Raises StorageProblem, also
    where the probe cannot be written.
    """
    nodes = living_nodes()
    if len(nodes) < 2:
        return
    probe = join(output, "_preflight", uuid.uuid4().hex)
    if write:
        write_probe(probe, output)
    try:
        complaints = ask(nodes[:MOST_NODES], [*([probe] if write else []), *samples])
    finally:
        if write:
            remove([probe], prune=True)
    for url, blind in complaints.items():
        if blind:
            raise StorageProblem(explain(url, output if url == probe else url, url == probe, blind, len(nodes)))


def write_probe(probe: str, output: str) -> None:
    """The file that every node looks for; StorageProblem where it cannot be written."""
    try:
        create(probe, b"seen by every node?")
    except StorageUnavailable:
        raise
    except OSError as error:
        what = f"OUTPUT {redact(output)} cannot be written: {describe(error)}"
        raise StorageProblem(f"{what}; check URL and rights") from None


def ask(nodes: Sequence[dict[str, Any]], urls: Sequence[str]) -> dict[str, dict[str, str]]:
    """URL → {node's address: what it says} of the nodes that do not find it; nodes that go meanwhile say nothing."""
    look = ray.remote(num_cpus=0, max_retries=0)(complaints_here)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[look.options(scheduling_strategy=there).remote(list(urls))] = node["NodeManagerAddress"]
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    found: dict[str, dict[str, str]] = {url: {} for url in urls}
    for reference in done:
        try:
            answers = ray.get(reference)
        except ray.exceptions.RayError:
            continue
        for url, complaint in answers.items():
            found[url][asked[reference]] = complaint
    return found


def complaints_here(urls: Sequence[str]) -> dict[str, str]:
    """What is wrong with these URLs on this node."""
    found = {}
    for url in urls:
        try:
            if not exists(url):
                found[url] = "not there"
        except OSError as error:
            found[url] = describe(error)
    return found


def explain(url: str, place: str, output: bool, blind: dict[str, str], nodes: int) -> str:
    """One line on what some nodes do not see."""
    who = ", ".join(sorted(set(blind))[:4]) + (", …" if len(set(blind)) > 4 else "")
    what = f"OUTPUT {redact(place)}: what one node writes" if output else f"input {redact(place)}"
    remedy = "give a bucket, or a folder that all nodes share" if is_local(url) else "give every node the credentials"
    return f"{what} is not seen by {len(blind)} of {nodes} nodes ({who}: {next(iter(blind.values()))}); {remedy}"


def wait_for_actor(resources: Resources, minutes: float, say: Callable[[str], None]) -> bool:
    """Waits until one actor fits a living node; False where it did at once. NoResources after so many minutes."""
    if fits(resources):
        return False
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in resources.actor.items())
    say(f"no node holds an actor ({wanted}) yet; asked the autoscaler for one, waiting up to {minutes:g} min")
    request_resources(bundles=[resources.actor] * resources.min_actors)
    try:
        until = time.monotonic() + 60 * minutes
        while not fits(resources):
            if time.monotonic() > until:
                raise NoResources(
                    f"no node with {wanted} came up in {minutes:g} min; see `ray status`, the node types' limits and "
                    "quotas, or give --wait-for-resources more minutes"
                )
            time.sleep(1)
    finally:
        request_resources(bundles=[])
    return True


def fits(resources: Resources) -> bool:
    """Whether a living node holds one actor."""
    wanted = resources.actor
    return any(all(node["Resources"].get(name, 0) >= wanted[name] for name in wanted) for node in living_nodes())
