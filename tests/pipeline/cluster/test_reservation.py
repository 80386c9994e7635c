"""All or nothing: what a job takes of a shared cluster, what it says while it waits, and what it needs of Ray."""

import re
import socket
import threading
import time
import types
from pathlib import Path

import pytest
import ray
from ray.data import DataContext

from scclip.errors import UserError
from scclip.pipeline.cluster import silence, waiting
from scclip.pipeline.cluster.nodes import GCS_RECORDS, RayNode, free_nodes, private, workers_killed_for_memory
from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.cluster.reservation import bundles, give_back, reserved
from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.cluster.silence import Reminder, Silence
from scclip.pipeline.cluster.waiting import head_watched, if_it_lives, in_use, what_is_missing


def wait_for(true: "object", seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)


def free_cpus() -> float:
    return sum(node["Resources"]["CPU"] for node in free_nodes())


def test_the_second_job_waits_for_the_first_and_says_so(local_ray: None) -> None:
    wait_for(lambda: free_cpus() == 2)
    first = reserved(ComputeConfig(), Reminder(pytest.fail, 60))
    assert (first.actor_cpus, first.group.bundle_specs[0]["CPU"]) == (0.8, 2)
    wait_for(lambda: free_cpus() == 0)
    said: list[str] = []
    second: list[float] = []

    def begin() -> None:
        resources = reserved(ComputeConfig(), Reminder(said.append, 0.2))
        second.append(resources.actor_cpus)
        give_back(resources.group)

    thread = threading.Thread(target=begin)
    thread.start()
    wait_for(lambda: said)
    assert "2 of 2 CPUs are in use by others" in said[0] and not second
    give_back(first.group)
    thread.join(30)
    assert second == [0.8]


def test_a_part_of_a_node_is_enough(local_ray: None) -> None:
    wait_for(lambda: free_cpus() == 2)
    holder = ray.remote(num_cpus=0.5)(Holder).remote()
    ray.get(holder.ready.remote())
    wait_for(lambda: free_cpus() == 1)
    half = reserved(ComputeConfig(), Reminder(pytest.fail, 60))
    needs = half.actor_cpus + half.read_cpus + half.decode_cpus + half.commit_cpus
    assert half.group.bundle_specs[0]["CPU"] == 1 and needs <= 1
    give_back(half.group)
    ray.kill(holder)


class Holder:
    def ready(self) -> bool:
        return True


def node(cpus: float, gpus: float = 0.0) -> RayNode:
    return {"NodeID": "", "NodeManagerAddress": "", "Resources": {"CPU": cpus, "GPU": gpus, "object_store_memory": 9e8}}


@pytest.mark.parametrize("actors", ["", "1", "2"])
@pytest.mark.parametrize("sizes", [[(8, 0), (2, 0)], [(8, 2), (8, 1)], [(0, 0), (4, 0), (4, 0), (4, 0)]])
def test_what_is_taken_holds_actors_and_their_stages(sizes: list[tuple[float, float]], actors: str) -> None:
    nodes = [node(*size) for size in sizes]
    resources = divide(ComputeConfig(actors=actors), nodes=[Shape(*size) for size in sizes])
    taken = bundles(resources, nodes)
    cpus, gpus = (sum(bundle.get(name, 0.0) for bundle in taken) for name in ("CPU", "GPU"))
    stages = resources.read_cpus + resources.decode_cpus + resources.commit_cpus
    assert all(bundle["object_store_memory"] <= 9e8 for bundle in taken)
    assert cpus >= resources.max_actors * resources.actor_cpus + stages
    assert gpus == resources.max_actors * resources.gpus_per_actor
    assert len(taken) <= resources.max_actors, "no more nodes than actors"


def test_a_job_with_few_actors_leaves_their_share_of_a_node_to_others() -> None:
    nodes = [node(16, 8)]
    resources = divide(ComputeConfig(actors="2"), nodes=[Shape(16, 8)])
    assert bundles(resources, nodes) == [{"CPU": 4, "GPU": 2, "object_store_memory": 9e8 / 4}]
    halves = divide(ComputeConfig(actors="3", gpus_per_actor=0.5), nodes=[Shape(16, 8)])
    assert bundles(halves, nodes)[0]["GPU"] == 2, "Ray wants whole GPUs above one"


def test_reminders_come_more_and_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], list[tuple[float, str]]()
    monkeypatch.setattr(silence.time, "monotonic", lambda: now[0])
    reminder = Reminder(lambda line: said.append((now[0], line)), 30)
    for now[0] in map(float, range(3000)):
        reminder.due(lambda: "CPUs")
    assert [second for second, _ in said] == [30, 90, 210, 450, 930, 1530, 2130, 2730]
    assert said[1][1] == "waiting for 90 s: CPUs"
    reminder.reset()
    reminder.due(lambda: "nothing")
    assert len(said) == 8


def test_what_is_missing_is_named(local_ray: None) -> None:
    resources = divide(ComputeConfig(), nodes=[Shape(2)])
    state = {"starting": [("10.0.0.5", 41.0)], "started": 0, "open": {}, "failure": None}
    assert "an actor is starting on 10.0.0.5 for 41 s" in what_is_missing(state, resources, 0)
    state = {"starting": [], "started": 1, "open": {"label": 2, "decode": 1}, "failure": None}
    assert what_is_missing(state, resources, 0) == "at work: 1 × decode, 2 × label"
    assert "no actor has begun" in what_is_missing({**state, "started": 0, "open": {}}, resources, 0)
    assert what_is_missing(None, resources, 0).startswith("the worker that keeps the job's ledger does not answer; ")
    assert in_use({"CPU": 2.0}).startswith("0 of 2 CPUs are in use by others")
    assert "has killed 3 workers since the job began; " in what_is_missing(state, resources, 3)
    assert workers_killed_for_memory() == 0


@pytest.mark.parametrize("stopped", [False, True], ids=["gone", "stopped"])
def test_a_head_that_is_gone_ends_the_job(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        if stopped:  # the system takes connections, nobody reads them
            unused.listen()
        monkeypatch.setattr(waiting, "HEAD_SECONDS", 0.3)
        monkeypatch.setattr(waiting, "head_address", lambda: unused.getsockname())
        monkeypatch.setattr(waiting, "HEAD_LOST", 1.5)
        ended: list[str] = []
        with head_watched(ended.append):
            assert if_it_lives(pytest.fail)() == "the cluster's head does not answer"
            wait_for(lambda: ended)
    assert "does not answer any more" in ended[0]


def test_a_job_that_slept_does_not_take_its_head_for_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop's lid, SIGSTOP: two hours have passed since the last answer, and the first one after them fails."""
    slept, asked, ended = [0.0], list[int](), list[str]()

    def answers(address: tuple[str, int]) -> bool:
        asked.append(1)
        slept[0] = 7200.0 * (len(asked) > 1)
        return len(asked) != 2

    monkeypatch.setattr(waiting, "head_address", lambda: ("127.0.0.1", 1))
    monkeypatch.setattr(waiting, "answers", answers)
    monkeypatch.setattr(waiting, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + slept[0]))
    with head_watched(ended.append):
        wait_for(lambda: len(asked) > 3)
    assert ended == []


def test_a_reason_that_cannot_be_told_is_no_silence() -> None:
    """A Ray without a private name, say: the reminder comes with what is wrong in place of the reason."""
    said: list[str] = []
    watched = Silence(lambda: private("ray._private.state", "no_such_name"), said.append)
    watched.reminder.pause = 0.5
    with watched:
        wait_for(lambda: said)
    assert re.search(r"for what is not known \(Ray .* has no ray._private.state.no_such_name, which", said[0]), said


def test_a_head_that_lives_answers(local_ray: None) -> None:
    assert waiting.answers(waiting.head_address())


def test_ray_data_is_told_of_all_that_is_taken(local_ray: None) -> None:
    """With an object store of 0 it lets each stage make one block at a time: the same graph takes 4.6 times as long."""
    wait_for(lambda: free_cpus() == 2)
    resources = reserved(ComputeConfig(), Reminder(pytest.fail, 60))
    try:
        configure_ray_data(resources)
        told = DataContext.get_current().scheduling_strategy.placement_group
        assert told.id == resources.group.id and ray.util.placement_group_table(told)["bundles"] == {0: {"CPU": 2.0}}
        (node,) = ray.nodes()
        assert told.bundle_specs == [{"CPU": 2, "object_store_memory": int(node["Resources"]["object_store_memory"])}]
    finally:
        give_back(resources.group)
        DataContext._set_current(DataContext())


def test_private_names_of_ray_are_guarded_and_there() -> None:
    """Every one is asked for by `private`, so that a Ray without it is told in one line; this Ray has them all."""
    root, asked = Path(__file__).parents[3], list[tuple[str, str]]()
    for path in (path for folder in ("jobs", "pipeline", "scclip") for path in (root / folder).rglob("*.py")):
        text = path.read_text()
        asked += re.findall(r"private\(\s*([\w.\"]+), \"([\w.]+)\"", text)
        without = re.sub(r"private\([^)]*\)|GCS_RECORDS = .*", "", text)
        assert not re.search(r"\bray\.[\w.]*(\b_private|\b_internal|core\.generated|experimental)\b", without), path
    names = {"GCS_RECORDS": GCS_RECORDS}
    assert len(asked) >= 6
    for module, name in asked:
        assert private(names.get(module, module.strip('"')), name) is not None


def test_a_ray_without_a_name_that_is_needed_is_told() -> None:
    with pytest.raises(UserError, match=rf"Ray {ray.__version__} has no ray._private.state.no_such_name, which"):
        private("ray._private.state", "no_such_name")
    with pytest.raises(UserError, match=r"has no ray._private.gone.name"):
        private("ray._private.gone", "name")
