"""What a task is given: its own units, small ones together, as many bytes in a large job as in a small one."""

import pickle

import pytest

from scclip.pipeline.inputs.groups import GROUP_BYTES, GROUP_IMAGES, grouped
from scclip.pipeline.inputs.units import PlannedFile, Unit


def tars(count: int, size: int) -> list[Unit]:
    return [Unit(number=n, kind="tar", url=f"/data/{n:06d}.tar", size=size, version="1") for n in range(1, count + 1)]


@pytest.mark.parametrize("size", [0, 10_000, 5_000_000, GROUP_BYTES - 1, GROUP_BYTES, 10 * GROUP_BYTES])
def test_groups_hold_all_units_in_order_and_not_too_much(size: int) -> None:
    units = tars(3000, size)
    groups = list(grouped(units, tasks=2))
    assert [unit for group in groups for unit in group] == units
    assert all(len(group) == 1 or sum(unit.size for unit in group) <= GROUP_BYTES for group in groups)
    assert all(len(group) <= GROUP_IMAGES for group in groups)
    assert len(groups) <= len(units) // 50 or size > 1_000_000


def test_large_units_stay_alone_and_few_units_keep_all_tasks_busy() -> None:
    assert len(list(grouped(tars(20, GROUP_BYTES)))) == 20
    assert len(list(grouped(tars(160, 1000), tasks=2))) >= 32
    assert len(list(grouped(tars(3, 1000), tasks=2))) == 3
    assert list(grouped([])) == []


def test_groups_of_image_files_hold_about_a_thousand() -> None:
    files = tuple(PlannedFile(f"/f/{n}.jpg", 9_000, "1", f"{n}", f"{n}.jpg") for n in range(256))
    units = [Unit(number=n, kind="files", url="/f", size=256 * 9_000, version="", files=files) for n in range(1, 401)]
    assert {len(group) for group in grouped(units)} == {3, 1}


def test_the_bytes_of_a_task_do_not_grow_with_the_job() -> None:
    def largest(count: int) -> int:
        return max(len(pickle.dumps(group)) for group in grouped(tars(count, 10_000)))

    assert largest(100_000) <= 1.05 * largest(5_000) < 20_000
