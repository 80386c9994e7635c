"""What is found before a job begins: storage that a node does not see, actors that nothing will ever hold."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import ray

from scclip.pipeline.cluster import preflight
from scclip.pipeline.cluster.nodes import RayNode, described_types, nodes_to_come
from scclip.pipeline.cluster.preflight import check_storage, explain, problems_here, wait_for_room
from scclip.pipeline.cluster.resources import ComputeConfig, NoResources, Shape, StorageProblem, divide


def test_a_node_says_what_it_does_not_see(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    assert problems_here([str(there), str(tmp_path / "gone")]) == {str(tmp_path / "gone"): "not there"}


def test_the_refusal_names_nodes_place_and_remedy() -> None:
    blind = {"10.0.0.2": "not there", "10.0.0.3": "not there"}
    said = explain("/data/labels", True, blind, 3)
    assert said == (
        "OUTPUT /data/labels: what one node writes is not seen by 2 of 3 nodes (10.0.0.2, 10.0.0.3: not there); "
        "give a bucket, or a folder that all nodes share"
    )
    remote = explain("s3://b/in/0.tar", False, {"10.0.0.2": "Access Denied"}, 2)
    assert remote.startswith("input s3://b/in/0.tar is not seen by 1 of 2") and remote.endswith("the credentials")


def test_a_cluster_of_one_node_is_asked_as_well(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process sees and the node does not is refused; what nobody sees is not the node's fault."""
    there, out, ask = tmp_path / "there.tar", tmp_path / "out", preflight.problems_on_nodes
    there.touch()
    check_storage(str(out), [str(there), str(tmp_path / "gone.tar")])
    assert not list(out.rglob("*"))

    def ask_too_late(nodes: Sequence[RayNode], urls: Sequence[str]) -> dict[str, dict[str, str]]:
        there.unlink()
        return ask(nodes, urls)

    monkeypatch.setattr(preflight, "problems_on_nodes", ask_too_late)
    with pytest.raises(
        StorageProblem, match=r"input .*there.tar is not seen by 1 of 1 node \(.*: not there\); give a b"
    ):
        check_storage(str(out), [str(there)], write=False)


def test_waiting_ends(local_ray: None) -> None:
    """A Ray without GPUs and without autoscaler: nothing comes, and the message says what to look at."""
    resources = divide(ComputeConfig(gpus_per_actor=1), nodes=[Shape(2)], more=[])
    said: list[str] = []
    with pytest.raises(NoResources, match=r"no node with 1 CPU, 1 GPU came up in 0 min; see `ray status`"):
        wait_for_room(resources, 0, said.append)
    assert len(said) == 1 and "waiting up to 0 min" in said[0]
    assert nodes_to_come() is None
    assert not wait_for_room(divide(ComputeConfig(), nodes=[Shape(2)]), 0, said.append)


def test_ray_ups_own_description_tells_what_may_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert described_types() == []
    text = (Path(__file__).parents[3] / "cluster.yaml").read_text()
    (tmp_path / "ray_bootstrap_config.yaml").write_text(text)
    assert described_types() == [(Shape(4, 1), 16), (Shape(4, 1), 4), (Shape(8, 0), 8)]


def test_a_job_that_takes_no_group_waits_for_what_others_use(local_ray: None) -> None:
    """One CPU of two is in use: actors alone would fit, not with what feeds them; then there is room."""
    resources = divide(ComputeConfig(actors="2"), nodes=[Shape(2)], more=[])
    holder = ray.remote(num_cpus=1)(Holder).remote()
    ray.get(holder.ready.remote())
    said: list[str] = []
    threading.Timer(6, ray.kill, [holder]).start()
    assert resources.actor_cpus <= 1 and wait_for_room(resources, 0, said.append) and not said
    assert not wait_for_room(resources, 0, said.append)


class Holder:
    def ready(self) -> bool:
        return True
