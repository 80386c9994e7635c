"""What Ray Data does with our settings."""

import copy
import time
from collections.abc import Iterator
from typing import Any

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


class Lead:
    """How far the first stage has run ahead of the last."""

    def __init__(self) -> None:
        self.lead = self.most = 0

    def add(self, blocks: int) -> None:
        self.lead += blocks
        self.most = max(self.most, self.lead)

    def seen(self) -> int:
        return self.most


@pytest.mark.slow
def test_reading_runs_ahead_by_what_is_worked_on_not_by_what_there_is(own_context: None) -> None:
    """Of 400 small blocks 320 were read while the actor's first call slept, before they were bounded."""
    lead: Any = ray.remote(num_cpus=0)(Lead).remote()

    def read(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for value in range(20):
            ray.get(lead.add.remote(1))
            yield {"id": [value]}

    class Late:
        calls = 0

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.calls += 1
            time.sleep(8 if self.calls == 1 else 0)
            ray.get(lead.add.remote(-1))
            return batch

    configure_ray_data(Resources(min_actors=1, max_actors=1, fitting=1, actor_cpus=0.3, threads=1, calls_in_flight=2))
    pool = ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=3)
    units = ray.data.range(20, override_num_blocks=20).map_batches(read, batch_size=None, num_cpus=0.2)
    assert units.map_batches(Late, compute=pool, num_cpus=0.3, batch_size=1).count() == 400
    assert ray.get(lead.seen.remote()) < 150
