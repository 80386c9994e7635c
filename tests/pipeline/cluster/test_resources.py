"""Shares of every kind of cluster: what `divide` gives fits the nodes, node by node."""

import pytest

from scclip.pipeline.cluster.resources import ComputeConfig, ResourceError, Resources, Shape, divide

CPU, GPU = Shape(2), Shape(8, 1)


def packed(found: Resources, nodes: list[Shape]) -> int:
    """Actors that the nodes hold."""
    return sum(
        min(int(node.cpus / found.actor_cpus + 1e-9), int(node.gpus / found.gpus_per_actor + 1e-9))
        if found.gpus_per_actor
        else int(node.cpus / found.actor_cpus + 1e-9)
        for node in nodes
    )


def test_one_machine() -> None:
    found = divide(ComputeConfig(), nodes=[Shape(2)])
    assert (found.min_actors, found.max_actors, found.actor_cpus, found.threads) == (1, 1, 0.8, 2)
    assert found.actor_cpus + found.read_cpus + found.decode_cpus + found.commit_cpus <= 2
    half = divide(ComputeConfig(), nodes=[Shape(1)])
    assert half.actor_cpus + half.read_cpus + half.decode_cpus + half.commit_cpus <= 1
    three = divide(ComputeConfig(actors="3"), nodes=[Shape(2)])
    assert three.actor_cpus * 3 + three.read_cpus + three.decode_cpus + three.commit_cpus <= 2
    assert divide(ComputeConfig(), nodes=[Shape(8, 1)]).actor == {"CPU": 1.0, "GPU": 1.0}


@pytest.mark.parametrize("nodes", [[CPU] * 3, [Shape(0), CPU, CPU], [Shape(16), CPU, Shape(4)], [Shape(64)] * 5])
@pytest.mark.parametrize("actors", ["", "1", "3", "4"])
def test_cpu_clusters_hold_their_actors_and_leave_room_to_read(nodes: list[Shape], actors: str) -> None:
    found = divide(ComputeConfig(actors=actors), nodes=nodes)
    assert packed(found, nodes) >= found.max_actors
    assert found.fitting == packed(found, nodes)
    free = [node.cpus - int(node.cpus / found.actor_cpus) * found.actor_cpus for node in nodes]
    spread = sum(node.cpus for node in nodes) - found.max_actors * found.actor_cpus
    assert max(free) >= found.read_cpus + found.decode_cpus or spread >= 1.2 * sum(node.cpus > 0 for node in nodes)


def test_default_is_an_actor_a_node_and_one_a_gpu() -> None:
    assert divide(ComputeConfig(), nodes=[Shape(0), CPU, CPU]).max_actors == 2
    assert divide(ComputeConfig(), nodes=[CPU, GPU, Shape(48, 4)]).max_actors == 5
    assert divide(ComputeConfig(gpus_per_actor=0.5), nodes=[CPU, GPU, Shape(48, 4)]).max_actors == 10
    assert divide(ComputeConfig(gpus_per_actor=0), nodes=[GPU, GPU]).device == "cpu"


def test_mixed_clusters_are_told_from_uniform_ones() -> None:
    assert divide(ComputeConfig(), nodes=[CPU, GPU]).mixed
    assert not divide(ComputeConfig(), nodes=[GPU, GPU]).mixed
    assert not divide(ComputeConfig(), nodes=[CPU, CPU]).mixed


def test_gpu_actors_leave_cpus_for_decoding() -> None:
    crowded = divide(ComputeConfig(), nodes=[Shape(8, 8)])
    assert packed(crowded, [Shape(8, 8)]) == 8
    assert 8 * crowded.actor_cpus <= 4


@pytest.mark.parametrize(
    ("config", "nodes", "words"),
    [
        (ComputeConfig(), [Shape(8, 0.5)] * 3, "the largest node has 0.5; lower --gpus-per-actor"),
        (ComputeConfig(gpus_per_actor=1), [CPU], "the largest node has 0"),
        (ComputeConfig(actors="5"), [GPU, GPU], r"too few GPUs \(2\) for 5 actors of 1 each; lower --actors"),
        (ComputeConfig(actors="200"), [CPU], r"too few CPUs \(2\) for 200 actors; use --actors 16 at most"),
        (ComputeConfig(), [Shape(0)], "no CPUs"),
    ],
)
def test_what_never_fits_is_refused(config: ComputeConfig, nodes: list[Shape], words: str) -> None:
    with pytest.raises(ResourceError, match=words):
        divide(config, nodes=nodes)


def test_an_autoscaler_may_bring_what_is_missing() -> None:
    head = [Shape(0)]
    told = divide(ComputeConfig(), nodes=head, more=[GPU] * 3)
    assert (told.fitting, told.min_actors, told.max_actors, told.device) == (0, 1, 3, "cuda")
    silent = divide(ComputeConfig(gpus_per_actor=1, actors="2:4"), nodes=head, more=[])
    assert (silent.fitting, silent.min_actors, silent.max_actors) == (0, 2, 4)
    with pytest.raises(ResourceError, match="largest node has 0"):
        divide(ComputeConfig(gpus_per_actor=1), nodes=head, more=[CPU] * 3)
    growing = divide(ComputeConfig(actors="1:3"), nodes=[Shape(0), CPU], more=[])
    assert packed(growing, [CPU]) == 1, "three actors must need three nodes, or nothing ever grows"


@pytest.mark.parametrize("size", [4, 8, 16, 64])
def test_a_pool_that_grows_asks_for_what_a_stage_may_get_of_a_new_node(size: int) -> None:
    growing = divide(ComputeConfig(actors="1:3"), nodes=[Shape(size)], more=[])
    left = 0.75 * (size - 1)  # Ray Data loses parts of a CPU of each node; then the last stage takes its quarter
    assert growing.actor_cpus <= left
    assert packed(growing, [Shape(size)]) == 1 and growing.threads == size
    one_node = divide(ComputeConfig(actors="1:3"), nodes=[Shape(size)])
    assert one_node.actor_cpus < divide(ComputeConfig(actors="3"), nodes=[Shape(size)]).actor_cpus


@pytest.mark.parametrize("text", ["0", "3:1", "a", "1:2:3"])
def test_actors_are_a_range(text: str) -> None:
    with pytest.raises(ValueError, match="actors"):
        ComputeConfig(actors=text)


@pytest.mark.parametrize("gpus", [-0.5, 2])
def test_an_actor_has_one_gpu_at_most(gpus: float) -> None:
    with pytest.raises(ValueError, match="gpus_per_actor"):
        ComputeConfig(gpus_per_actor=gpus)
