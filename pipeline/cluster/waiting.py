"""Says what a job waits for: a job that says nothing for half a minute looks like one that hangs.

with Silence(lambda: in_use(), say=print) as silence:
    for outcome in outcomes:
        silence.progress()
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray

from scclip.pipeline.cluster.disk import full_disk
from scclip.pipeline.cluster.nodes import free_nodes, living_nodes, workers_killed_for_memory
from scclip.pipeline.cluster.resources import Resources
from scclip.wording import counted

FIRST, LONGEST = 30.0, 600.0  # seconds until the first reminder, and at most between two
HEAD_SECONDS = 5.0  # in which a head answers
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    [0, 0, 0, 4, 0, 0, 0, 0, 0]
)  # and empty SETTINGS, RFC 9113, 3.4
HEAD_LOST = 45.0  # seconds without an answer; Ray ends the process itself, without a word, after 60


class Reminder:
    """Says something when it is due: after `first` seconds, then each time after twice as long."""

    def __init__(self, say: Callable[[str], None], first: float = FIRST) -> None:
        self.say, self.first = say, first
        self.reset()

    def reset(self) -> None:
        """Begins to count anew."""
        self.since = self.last = time.monotonic()
        self.pause = self.first

    def due(self, text: Callable[[], str]) -> None:
        """Says `text()` where the time has come."""
        now = time.monotonic()
        if now - self.last >= self.pause:
            self.last, self.pause = now, min(2 * self.pause, LONGEST)
            self.say(f"waiting for {now - self.since:.0f} s: {text()}")


class Silence(contextlib.AbstractContextManager["Silence"]):
    """Watches, in a thread of its own, that there is progress, and says the reason where there is none.

    Args:
        reason: what is waited for, in words.
        say: takes the line.
        ended: called once the head of the cluster is lost.
    """

    def __init__(self, reason: Callable[[], str], say: Callable[[str], None], ended: Callable[[str], None]) -> None:
        self.reason, self.ended, self.reminder = reason, ended, Reminder(say)
        self.resumed: Callable[[], None] = lambda: None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "Silence":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()

    def progress(self) -> None:
        """Something was done."""
        self.reminder.reset()
        self.resumed()

    def watch(self) -> None:
        """The thread's loop."""
        address, answered = head_address(), time.monotonic()
        while not self.stop.wait(1.0):
            if answers(address):
                answered = time.monotonic()
                with contextlib.suppress(Exception):  # a reminder must not end a job
                    self.reminder.due(self.reason)
            elif time.monotonic() - answered > HEAD_LOST:
                self.ended(f"the cluster's head {address[0]}:{address[1]} does not answer any more")
                return


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


def what_is_missing(state: Mapping[str, Any] | None, resources: Resources) -> str:
    """What a job that runs waits for, given `AttemptLedger.now()`, or None where the ledger does not answer."""
    said, killed = list[str](), workers_killed_for_memory()
    if full := full_disk():
        said.append(full)
    if killed:
        said.append(
            f"Ray's memory monitor has killed {counted(killed, 'worker')}; use fewer --actors or a smaller --chunk-size"
        )
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
