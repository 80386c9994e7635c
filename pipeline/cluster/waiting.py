"""What a job on a cluster waits for, in words, and whether the cluster's head still lives.

with head_watched(ended=print), Silence(if_it_lives(in_use), say=print) as silence:
    for outcome in outcomes:
        silence.progress()
"""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray

from scclip.pipeline.cluster.disk import full_disk
from scclip.pipeline.cluster.nodes import free_nodes, living_nodes
from scclip.pipeline.cluster.resources import Resources
from scclip.pipeline.cluster.silence import every_second
from scclip.wording import counted

HEAD_SECONDS = 5.0  # in which a head answers
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    [0, 0, 0, 4, 0, 0, 0, 0, 0]
)  # and empty SETTINGS, RFC 9113, 3.4
HEAD_LOST = 45.0  # seconds without an answer; Ray ends the process itself, without a word, after 60
LOOK = 10.0  # seconds that one look may count for: it takes 6, the rest this process or its machine was stopped


def head_watched(ended: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Watches over the head of the cluster while the block runs; calls `ended` with a line once it is lost."""
    (host, port), silent, last = head_address(), 0.0, time.monotonic()

    def look() -> None:
        nonlocal silent, last
        alive, now = answers((host, port)), time.monotonic()
        silent, last = 0.0 if alive else silent + min(now - last, LOOK), now
        if silent > HEAD_LOST:
            ended(f"the cluster's head {host}:{port} does not answer any more")

    return every_second(look)


def head_address() -> tuple[str, int]:
    """Where the cluster's head listens."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def answers(address: tuple[str, int]) -> bool:
    """True where a server of gRPC answers; the system takes connections for a stopped process as well."""
    try:
        connection = socket.create_connection(address, timeout=HEAD_SECONDS)
    except OSError:
        return False
    with connection:
        try:
            connection.sendall(HTTP2_PREFACE)
            connection.recv(1)
        except TimeoutError:
            return False
        except OSError:  # a server that wants TLS hangs up
            return True
    return True


def if_it_lives(reason: Callable[[], str]) -> Callable[[], str]:
    """The reason, which may need the cluster's head, unless that does not answer."""
    return lambda: reason() if answers(head_address()) else "the cluster's head does not answer"


def in_use(ours: Mapping[str, float] | None = None) -> str:
    """`4 of 4 CPUs are in use by others`, GPUs likewise where there are some.

    Args:
        ours: what this job itself holds, by resource; None: not known, and all use is told.
    """
    living, free, said = living_nodes(), free_nodes(), list[str]()
    others_only = "" if ours is None else " by others"
    for name, word in (("CPU", "CPUs"), ("GPU", "GPUs")):
        total = sum(node["Resources"].get(name, 0.0) for node in living)
        others = total - sum(node["Resources"].get(name, 0.0) for node in free) - (ours or {}).get(name, 0.0)
        if total:
            said.append(f"{max(0.0, others):.3g} of {total:g} {word} are in use{others_only}")
    return ", ".join(said)


def what_is_missing(state: Mapping[str, Any] | None, resources: Resources, killed: int) -> str:
    """What a job that runs waits for.

    Args:
        state: `AttemptLedger.now()`; None where the ledger does not answer.
        resources: what the job has.
        killed: workers of the cluster that were killed for memory since the job began.
    """
    said = list[str]()
    if full := full_disk():
        said.append(full)
    if killed:
        remedy = "where they are this job's, use fewer --actors or a smaller --chunk-size"
        said.append(f"Ray's memory monitor has killed {counted(killed, 'worker')} since the job began; {remedy}")
    said += ["the worker that keeps the job's ledger does not answer"] if state is None else at_work(state)
    if state is None or not state["open"].get("label"):
        said.append(in_use(reserved_by(resources)))
    return "; ".join(said)


def at_work(state: Mapping[str, Any]) -> list[str]:
    """What the ledger knows of actors that start and of work that is begun."""
    said = [f"an actor is starting on {node} for {seconds:.0f} s" for node, seconds in state["starting"]]
    if state["open"]:
        said.append("at work: " + ", ".join(f"{count} × {stage}" for stage, count in sorted(state["open"].items())))
    if not state["started"] and not state["starting"]:
        said.append("no actor has begun to start")
    return said


def reserved_by(resources: Resources) -> dict[str, float] | None:
    """CPUs and GPUs of this job's group; None where it reserved none, and its share of what is in use is not known."""
    if resources.group is None:
        return None
    bundles = resources.group.bundle_specs
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("CPU", "GPU")}
