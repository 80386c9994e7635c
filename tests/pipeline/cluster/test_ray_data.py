"""What Ray Data does with our settings."""

import copy
import time
from collections.abc import Iterator

import pytest
import ray
from ray.data import ActorPoolStrategy, DataContext

from scclip.pipeline.cluster.ray_data import configure_ray_data
from scclip.pipeline.cluster.resources import Resources


@pytest.fixture
def own_context(local_ray: None) -> Iterator[None]:
    """Settings of this test alone."""
    before = DataContext.get_current()
    DataContext._set_current(copy.deepcopy(before))
    yield
    DataContext._set_current(before)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_busy_pool_grows(own_context: None, calls: int) -> None:
    class Slow:
        def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[str]]:
            time.sleep(0.5)
            return {"actor": [ray.get_runtime_context().get_actor_id()]}

    share = Resources(min_actors=1, max_actors=2, fitting=2, actor_cpus=0.3, threads=1, calls_in_flight=calls)
    configure_ray_data(share)
    pool = ActorPoolStrategy(
        min_size=1, max_size=2, max_tasks_in_flight_per_actor=calls + 1, max_concurrent_calls_per_actor=calls
    )
    rows = ray.data.range(200, override_num_blocks=200)  # an actor may take long to start
    labeled = rows.map_batches(Slow, compute=pool, num_cpus=share.actor_cpus, batch_size=1)
    results = iter(labeled.iter_rows())
    first = next(results)
    assert any(row["actor"] != first["actor"] for row in results)
