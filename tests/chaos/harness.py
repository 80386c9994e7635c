"""Does harm to a real job at seeded random moments, reruns the same command until it is done, compares.

    report = Chaos(words, output, reference, random.Random(7)).run(kills=100)

A *life* is one process of the command. Some harm it survives (a worker dies), and then more is done to it; some ends it
(the driver dies), and then the same command is started again. A *run* is done when a life exits with 0.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from processes import children, contents, rows, start, title
from ray_cluster import RayCluster

WORKERS = {  # kind of harm → what Ray calls the process meanwhile
    "actor": "ray::MapWorker(MapBatches(LabelingActor))",
    "read": "MapBatches(read_stage)",
    "decode": "MapBatches(decode_stage)",
    "commit": "MapBatches(commit_stage)",
    "finish": "ray::finish_stage",
}
ENDS = {"driver": signal.SIGKILL, "sigterm": signal.SIGTERM, "ctrl-c": signal.SIGINT, "raylet": signal.SIGKILL}
EXITS = {"driver": {-9}, "sigterm": {130}, "ctrl-c": {130}, "raylet": {1, -9, -15, -6}}
PATIENCE = 20.0  # seconds to wait for a process of a kind to show up
STUCK = 420.0  # seconds after which a life is taken for hanging


@dataclass
class Report:
    """What was done and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lives: int = 0
    images: int = 0
    lost: int = 0
    duplicated: int = 0
    different_files: int = 0
    parts_left: int = 0
    worker_deaths: Counter[str] = field(default_factory=Counter)
    wrong_exits: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def line(self) -> str:
        """The whole report as one line of JSON."""
        return json.dumps({**self.__dict__, "total": self.kills.total(), "seconds": round(self.seconds, 1)})


class Life:
    """One process of the command, in a process group of its own; it starts its own Ray, or joins the cluster."""

    def __init__(
        self, words: Sequence[Any], env: dict[str, str] | None = None, cluster: RayCluster | None = None
    ) -> None:
        address = ["--address", cluster.address] if cluster else []
        self.process, self.cluster = start([*words, *address], env), cluster
        self.began = time.monotonic()

    def alive(self) -> bool:
        return self.process.poll() is None

    def servers(self, name: str) -> list[int]:
        """Processes of its Ray that run the server: raylet or gcs_server."""
        if self.cluster:
            return self.cluster.servers(name)
        return [pid for pid in children(self.process.pid) if f"/{name} " in title(pid)]

    def raylets(self) -> list[int]:
        return self.servers("raylet")

    def workers(self, kind: str) -> list[int]:
        """Processes that do the kind of work just now."""
        names = WORKERS[kind]
        return [pid for raylet in self.raylets() for pid in children(raylet) if names in title(pid)]

    def one(self, kind: str) -> int:
        """The first process that does the kind of work, as soon as there is one."""
        until = time.monotonic() + PATIENCE
        while self.alive() and time.monotonic() < until:
            if pids := self.workers(kind):
                return pids[0]
            time.sleep(0.003)
        raise AssertionError(f"no process of the kind {kind} came up")

    def wait_for_parts(self, output: Path, count: int) -> None:
        """Until so many chunks are committed; one of a finished unit counts as three parts."""
        until = time.monotonic() + 120
        while self.alive() and time.monotonic() < until:
            if len(list(output.glob("_parts/*/[!.]*"))) + 3 * len(list(output.glob("images/[!.]*"))) >= count:
                return
            time.sleep(0.01)

    def harm(self, kind: str, chance: random.Random) -> bool:
        """Kills one process of the kind as soon as there is one; False if none came up or the job ended before."""
        until = time.monotonic() + PATIENCE
        while self.alive() and time.monotonic() < until:
            targets = [self.process.pid] if kind in ("driver", "sigterm", "ctrl-c") else []
            targets = targets or (self.raylets() if kind == "raylet" else self.workers(kind))
            if targets:
                time.sleep(chance.random() * (0.02 if kind == "finish" else 0.1))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(targets), ENDS.get(kind, signal.SIGKILL))
                    return True
            time.sleep(0.003)
        return False

    def end(self, within: float = STUCK) -> tuple[int, str]:
        """Waits for the exit code and stderr; a life that hangs, so many seconds after its start, is an error."""
        left = max(1.0, within - (time.monotonic() - self.began))
        try:
            _, err = self.process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise TimeoutError(f"the job hangs after {within:.0f} seconds") from None
        return self.process.returncode, err


class Chaos:
    """Random harm to one command, whose last but flags words are its inputs and OUTPUT."""

    def __init__(self, words: Sequence[Any], output: Path, reference: Path, chance: random.Random) -> None:
        self.words, self.output, self.chance = words, output, chance
        self.expected, self.reference = rows(reference), contents(reference)
        self.report = Report()

    def run(self, kills: int) -> Report:
        """Runs, each harmed as long as there are kills left, until all are done and the last run is compared."""
        began = time.monotonic()
        while self.report.kills.total() < kills:
            while not self.life(kills):
                pass
            self.compare()
            shutil.rmtree(self.output)
        self.report.seconds = time.monotonic() - began
        return self.report

    def life(self, kills: int) -> bool:
        """One process of the command from start to end; True if it did the work."""
        life, last, chance = Life(self.words), "", self.chance
        self.report.lives += 1
        plan = [chance.choice(list(WORKERS)) for _ in range(chance.randrange(1, 6))]
        if chance.random() < 0.6:
            plan.append(chance.choice(list(ENDS)))
        for kind in plan[: max(0, kills - self.report.kills.total())]:
            self.wait_for_work(life)
            if kind in ENDS:
                time.sleep(chance.random() * 3)
            if not life.harm(kind, chance):
                continue
            self.report.kills[kind] += 1
            last = kind if kind in ENDS else last
        code, err = life.end()
        if code not in EXITS.get(last, set()) | {0}:
            self.report.wrong_exits.append(f"{last or 'no end'}: {code} {err[-300:]}")
        print(f"life {self.report.lives}: {dict(self.report.kills)}, exit {code}", file=sys.stderr, flush=True)
        if last in ("driver", "raylet"):
            time.sleep(1)  # orphans notice it now: the next life must not mind them
        return code == 0

    def wait_for_work(self, life: Life) -> None:
        """Until an actor is being made or works: before, there is only Ray's own start-up to disturb."""
        until = time.monotonic() + 90
        while life.alive() and time.monotonic() < until and not life.workers("actor"):
            time.sleep(0.02)

    def compare(self) -> None:
        """A finished run against the undisturbed one."""
        report, found = self.report, rows(self.output)
        ids = Counter(row["image_id"] for row in found)
        report.runs += 1
        report.images += len(found)
        report.lost += len({row["image_id"] for row in self.expected} - ids.keys())
        report.duplicated += sum(count - 1 for count in ids.values())
        now = contents(self.output)
        report.different_files += sum(now.get(name) != self.reference.get(name) for name in now.keys() | self.reference)
        report.parts_left += len(list(self.output.glob("_parts/**/*.parquet")))
        deaths = json.loads((self.output / "summary.json").read_text())["worker_deaths"]
        report.worker_deaths.update(deaths)


class NodeChaos(Chaos):
    """The same command on a cluster of three raylets on this machine, of which those that work are killed."""

    def run(self, kills: int) -> Report:
        """As `Chaos.run`; the cluster lives as long as this takes."""
        from ray.cluster_utils import Cluster

        quiet = {"include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
        self.nodes = [self.cluster.add_node(num_cpus=2) for _ in range(2)]
        try:
            return super().run(kills)
        finally:
            self.cluster.shutdown()

    def life(self, kills: int) -> bool:
        """One process of the command; nodes die one after the other, and each is replaced."""
        life = Life(self.words, {"RAY_ADDRESS": self.cluster.address})
        self.report.lives += 1
        for _ in range(min(3, kills - self.report.kills.total())):
            self.wait_for_parts(life)
            time.sleep(self.chance.random())
            if not life.alive():
                break
            victim = self.nodes.pop(self.chance.randrange(len(self.nodes)))
            self.cluster.remove_node(victim, allow_graceful=False)
            self.nodes.append(self.cluster.add_node(num_cpus=2))
            self.report.kills["node"] += 1
        code, err = life.end()
        if code:
            self.report.wrong_exits.append(f"node: {code} {err[-300:]}")
        return code == 0

    def wait_for_parts(self, life: Life) -> None:
        """Until another part is committed: the nodes have work, and some of it is done."""
        before, until = self.done(), time.monotonic() + 120
        while life.alive() and time.monotonic() < until and self.done() <= before:
            time.sleep(0.02)

    def done(self) -> int:
        """Parts and finished units that are there."""
        return len(list(self.output.glob("_parts/*/[!.]*"))) + 5 * len(list(self.output.glob("images/[!.]*")))


def intact(output: Path, reference: Path) -> bool:
    """Whether all that a run holds so far is whole: its files are the undisturbed run's, its parts can be read."""
    there, wanted = contents(output), contents(reference)
    for part in output.glob("_parts/**/[!.]*.parquet"):
        pq.read_table(part)
    return all(wanted.get(name) == content for name, content in there.items())


def complete(output: Path, reference: Path) -> bool:
    """Whether a run is done: its files are the undisturbed run's, every image is in it once, no part is left."""
    ids, wanted = Counter(row["image_id"] for row in rows(output)), {row["image_id"] for row in rows(reference)}
    left = list(output.glob("_parts/**/*.parquet"))
    return contents(output) == contents(reference) and ids == Counter(wanted) and not left
