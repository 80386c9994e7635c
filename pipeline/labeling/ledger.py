"""The attempt ledger: which process died while it worked on what, and which images are excluded for it.

    with attempts(ledger, "decode", [(3, 0), (4, 0)]) as attempt:   # in a worker: one call to announce, one when done
        with attempt(3, 0) as watch:                                # unit and chunk
            decode_chunk(chunk, config, watch)                      # watch(index): None, or why an image is excluded

A process that dies leaves its announcements open. The next announcement of the same work counts that as a death. What
was announced together is then announced piece by piece, and after a piece's second death, for a reader after the first,
image by image. An image is excluded only when it was alone in flight at two deaths on nodes that still live: one death
may be bad luck. With an image of a shard that kills its reader, the rest of the shard is excluded. Work that goes on
dying with no image to blame ends the job, so that nothing is retried for ever. Stages also report the storage requests
that they repeated.
"""

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scclip.errors import one_line
from scclip.pipeline.labeling.clock import Clock
from scclip.pipeline.labeling.telemetry import busy, count, show_waiting
from scclip.pipeline.labeling.watch import EXCLUDED_AFTER, Orders, Watch, Work, answer
from scclip.pipeline.storage.retries import retries_used

ONE_BY_ONE_AFTER = {"read": 1}  # deaths of a piece of work, 2 for other stages: their chunks hold many images
MOST_DEATHS = 32  # of one piece of work on living nodes, since an image was last excluded; then the job fails


class TooManyDeaths(RuntimeError):
    """A stage's process died again and again over the same work, and no image of it is to blame."""


@dataclass(frozen=True)
class Announcement:
    """Where a piece of work is being done, and on which image alone (None: on the whole chunk)."""

    node: str
    image: int | None = None


@dataclass
class History:
    """What is known of a piece of work that died."""

    deaths: list[Announcement] = field(default_factory=list)
    excluded: set[int] = field(default_factory=set)
    explained: int = 0
    """Deaths up to the last image that was excluded."""


def dead_nodes() -> set[str]:
    """Ids of the nodes that Ray has lost."""
    return {node["NodeID"] for node in ray.nodes() if not node["Alive"]}


class AttemptLedger:
    """The ledger itself; one small actor holds it. Its memory is that of the work in flight and of what died."""

    def __init__(self, lost: Callable[[], set[str]] = dead_nodes) -> None:
        self.lost = lost
        self.open: dict[Work, Announcement] = {}
        self.histories: dict[Work, History] = defaultdict(History)
        self.deaths: Counter[str] = Counter()
        self.storage_retries = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.waiting: set[tuple[int, int]] = set()
        self.starting: dict[str, tuple[str, float]] = {}
        self.started: set[str] = set()
        self.start_failure: str | None = None

    def starts(self, actor: str, node: str) -> None:
        """An actor begins to load the model on the node of that address."""
        self.starting[actor] = node, time.monotonic()
        self.started.discard(actor)

    def start_ended(self, actor: str, failure: str | None = None) -> None:
        """The model is loaded, or why it is not."""
        node, _ = self.starting.pop(actor, ("", 0.0))
        if failure:
            self.start_failure = f"{failure} (on {node})"
        else:
            self.started.add(actor)

    def now(self) -> dict[str, Any]:
        """Actors that start, each with its node and for how long; how many have started; calls at work by stage."""
        starting = [(node, time.monotonic() - since) for node, since in self.starting.values()]
        calls = {(work.stage, id(announcement)) for work, announcement in self.open.items()}  # one for all of a call
        work = dict(Counter(stage for stage, _ in calls))
        return {"starting": starting, "started": len(self.started), "open": work, "failure": self.start_failure}

    def begin(self, work: Work, node: str) -> Orders:
        """Announces a piece of work; an earlier announcement that is still open died. TooManyDeaths ends the job."""
        self.note_death([work])
        self.open[work] = Announcement(node)
        self.no_longer_waiting([work])
        history = self.histories.get(work, History())
        return Orders(len(history.deaths) >= ONE_BY_ONE_AFTER.get(work.stage, 2), frozenset(history.excluded))

    def begin_all(self, work: Sequence[Work], node: str) -> bool:
        """Announces what one process does piece by piece. False where some of it died: then nothing is announced."""
        self.note_death(work)
        if any(piece in self.histories for piece in work):
            return False
        self.open.update(dict.fromkeys(work, Announcement(node)))
        self.no_longer_waiting(work)
        return True

    def note_death(self, work: Sequence[Work]) -> None:
        """What of this work is still open died, with one process. Raises TooManyDeaths as `judge`."""
        if not (died := [piece for piece in work if piece in self.open]):
            return
        self.deaths[died[0].stage] += 1
        count("scclip_worker_deaths_total", 1, stage=died[0].stage)
        lost = self.lost()
        for piece in died:
            self.histories[piece].deaths.append(self.open.pop(piece))
            self.judge(piece, self.histories[piece], lost)

    def no_longer_waiting(self, work: Sequence[Work]) -> None:
        """Chunks that actors begin to label leave the queue."""
        if work[0].stage == "label":
            self.waiting.difference_update((piece.unit, piece.chunk) for piece in work)
            show_waiting(len(self.waiting))

    def judge(self, work: Work, history: History, lost: set[str]) -> None:
        """Excludes an image that is to blame for two deaths; deaths together with a node that is lost blame nobody."""
        guilty = Counter(death.image for death in history.deaths if death.image is not None and death.node not in lost)
        fresh = {image for image, count in guilty.items() if count >= EXCLUDED_AFTER} - history.excluded
        if fresh:
            history.excluded |= fresh
            history.explained = len(history.deaths)
        unexplained = [death for death in history.deaths[history.explained :] if death.node not in lost]
        if len(unexplained) > MOST_DEATHS:
            what = f"died {len(unexplained)} times over chunk {work.chunk} of unit {work.unit}"
            raise TooManyDeaths(f"the process of stage {work.stage} {what}; see to its memory and to the node's log")

    def alone(self, work: Work, image: int | None) -> None:
        """Announces the one image that is being processed from now on, None for none of them."""
        if work in self.open:
            self.open[work] = replace(self.open[work], image=image)

    def done(self, work: Sequence[Work], storage_retries: int, seconds: float = 0.0) -> None:
        """Pieces of work of one stage are done, after so many seconds of it."""
        for piece in work:
            self.open.pop(piece, None)
        self.storage_retries += storage_retries
        self.seconds[work[0].stage] += seconds
        if work[0].stage == "decode":
            self.waiting.update((piece.unit, piece.chunk) for piece in work)
            show_waiting(len(self.waiting))

    def totals(self) -> dict[str, Any]:
        """Deaths and seconds of work by stage, and storage requests that were repeated, so far."""
        deaths = dict(sorted(self.deaths.items()))
        return {"worker_deaths": deaths, "storage_retries": self.storage_retries, "stage_seconds": dict(self.seconds)}


@contextlib.contextmanager
def running_ledger() -> Iterator[Any]:
    """The ledger's actor, on this node; it ends with a job that came to its end, else with the driver.

    The tasks of a job that did not may still call it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(AttemptLedger)
    ledger: Any = actor.options(scheduling_strategy=here).remote()
    yield ledger
    ray.kill(ledger)


Attempt: TypeAlias = Callable[[int, int], AbstractContextManager[Watch]]


@contextlib.contextmanager
def attempts(ledger: Any, stage: str, pieces: Sequence[tuple[int, int]]) -> Iterator[Attempt]:
    """Announces what this process begins, (unit, chunk) each, and, if the block ends without an error, that it is done.

    Yields:
        What each piece is done in, given its unit and chunk: a block with the piece's `Watch`.
    """
    node, work = ray.get_runtime_context().get_node_id(), [Work(stage, *piece) for piece in pieces]
    if not (len(work) > 1 and answer(ledger.begin_all.remote(work, node))):
        yield lambda unit, chunk: announced(ledger, Work(stage, unit, chunk), node)
        return
    clocks = list[Clock]()

    @contextlib.contextmanager
    def attempt(unit: int, chunk: int) -> Iterator[Watch]:
        watch = Watch(ledger, Work(stage, unit, chunk))
        clocks.append(watch.clock)
        with busy(watch.clock):
            yield watch

    with told_when_done(ledger, work, clocks):
        yield attempt


@contextlib.contextmanager
def announced(ledger: Any, work: Work, node: str) -> Iterator[Watch]:
    """One piece of work, announced by itself."""
    watch = Watch(ledger, work, answer(ledger.begin.remote(work, node)))
    with told_when_done(ledger, [work], [watch.clock]), busy(watch.clock):
        yield watch


@contextlib.contextmanager
def told_when_done(ledger: Any, work: Sequence[Work], clocks: Sequence[Clock]) -> Iterator[None]:
    """Tells the ledger that the work of the block is done, unless that ends with an error."""
    before = retries_used()
    yield
    retries = retries_used() - before
    count("scclip_storage_retries_total", retries, stage=work[0].stage)
    seconds = sum(clock.seconds for clock in clocks)
    answer(ledger.done.remote(work, retries, seconds))  # before the job's end, which is the ledger's


@contextlib.contextmanager
def start_announced(ledger: Any) -> Iterator[None]:
    """Announces that this actor begins to start, and how that ended."""
    actor = ray.get_runtime_context().get_actor_id()
    ledger.starts.remote(actor, ray.util.get_node_ip_address())
    try:
        yield
    except Exception as error:
        answer(ledger.start_ended.remote(actor, f"{type(error).__name__}: {one_line(error)}"))
        raise
    ledger.start_ended.remote(actor)


class Gate:
    """Lets calls of one process pass together, or one that must be alone."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.inside, self.closed = 0, False

    @contextlib.contextmanager
    def entered(self, alone: bool) -> Iterator[None]:
        """Waits its turn; with `alone` until everybody else has left, and nobody comes in meanwhile."""
        with self.condition:
            self.condition.wait_for(lambda: not self.closed)
            self.closed = alone
            self.condition.wait_for(lambda: not alone or self.inside == 0)
            self.inside += 1
        try:
            yield
        finally:
            with self.condition:
                self.inside -= 1
                self.closed = self.closed and not alone
                self.condition.notify_all()
