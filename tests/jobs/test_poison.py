"""Images that kill their process every time, in reader, decoder and actor; and a good one with bad luck."""

import json
from pathlib import Path

import pytest
from pictures import encoded, tar_bytes
from processes import POISON, QUICK, contents, rows, run

from scclip.pipeline.inputs.groups import grouped
from scclip.pipeline.inputs.plan import plan_units

pytestmark = pytest.mark.slow
# shapes that kill: three for ever, one three times
DECODED, LABELED, READ, UNLUCKY = (41, 43), (47, 53), (67, 71), (59, 61)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, one kills who decodes it, another who labels it; five, one with bad luck; a reader's.

    They share a task, and one with the first of 61 shards of one picture.
    """
    folder = tmp_path_factory.mktemp("poison")
    first = {f"{seed:03d}.png": encoded(seed, {3: DECODED, 6: LABELED}.get(seed)) for seed in range(10)}
    second = {f"{seed:03d}.png": encoded(seed, UNLUCKY if seed == 12 else None) for seed in range(10, 15)}
    (folder / "1.tar").write_bytes(tar_bytes(first))
    (folder / "2.tar").write_bytes(tar_bytes(second))
    third = {f"{seed:03d}.png": encoded(seed, READ if seed == 22 else None) for seed in range(15, 25)}
    (folder / "3.tar").write_bytes(tar_bytes(third))
    for seed in range(25, 86):
        (folder / f"4-{seed}.tar").write_bytes(tar_bytes({f"{seed:03d}.png": encoded(seed)}))
    assert [unit.number for unit in next(grouped(plan_units([str(folder)])))] == [1, 2, 3, 4]
    return folder


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    words = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]
    return [*words, "--chunk-size", "5", "--max-failed", "0.2", "--masks", "png"]


@pytest.fixture(scope="module")
def undisturbed(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    from scclip.jobs.cli.main import main

    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(["label", str(shards), str(output), *flags]) == 0
    return output


@pytest.fixture(scope="module")
def disturbed(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same job among workers that die."""
    folder = tmp_path_factory.mktemp("disturbed")
    (folder / "kills").mkdir()
    for number in range(3):
        (folder / "kills" / str(number)).touch()
    entries = [("decode", *DECODED), ("label", *LABELED), ("read", *READ), ("decode", *UNLUCKY, folder / "kills")]
    poison = {"PYTHONPATH": str(POISON), "POISON": "; ".join(" ".join(map(str, entry)) for entry in entries)}
    code, _, err = run(["label", shards, folder / "out", *flags], poison)
    assert code == 0, err
    assert not list((folder / "kills").iterdir())
    return folder / "out"


def test_poison_images_are_set_aside_and_their_neighbours_are_labeled(undisturbed: Path, disturbed: Path) -> None:
    found, expected = rows(disturbed)[:10], rows(undisturbed)[:10]
    aside = {row["index"]: row["error"] for row in found if row["status"] == "killed_worker"}
    assert list(aside) == [3, 6]
    assert "died 2 times while it alone was being decoded" in aside[3]
    assert "died 2 times while it alone was being labeled" in aside[6]
    for row, good in zip(found, expected, strict=True):
        if row["index"] not in aside:
            assert {**row, "seconds": 0} == {**good, "seconds": 0}
    gone = {found[index]["image_id"] for index in aside}
    annotations, whole = (
        json.loads((output / "coco" / "0000001.json").read_text())["annotations"] for output in (disturbed, undisturbed)
    )
    assert annotations == [entry for entry in whole if entry["image_id"] not in gone]


def test_a_good_chunk_with_bad_luck_is_labeled_whole(undisturbed: Path, disturbed: Path) -> None:
    """Its decoder was killed three times while it worked on the same image; and so are all other shards' images."""
    found, expected = contents(disturbed), contents(undisturbed)
    whole = [name for name in expected if "0000001" not in name and "0000003" not in name]
    assert len(whole) == 4 * 62
    assert {name: found[name] for name in whole} == {name: expected[name] for name in whole}


def test_a_shard_that_kills_its_reader_costs_its_rest(undisturbed: Path, disturbed: Path) -> None:
    found = [row for row in rows(disturbed) if row["unit"] == 3]
    whole = [row for row in rows(undisturbed) if row["unit"] == 3]
    assert [row["status"] for row in found] == ["ok"] * 7 + ["killed_worker"] and len(whole) == 10
    assert found[7]["file_name"] == "3.tar" and "died 2 times while it alone was being read" in found[7]["error"]
    for row, good in zip(found[:7], whole, strict=False):
        assert {**row, "seconds": 0} == {**good, "seconds": 0}


def test_deaths_are_counted(disturbed: Path) -> None:
    """Two over each chunk of a poison image and two over the image alone; three of bad luck; a reader's own."""
    deaths = json.loads((disturbed / "summary.json").read_text())["worker_deaths"]
    assert (deaths["decode"], deaths["label"], deaths["read"]) == (4 + 3, 4, 3), deaths
