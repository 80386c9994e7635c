"""An image that kills its process every time, in decode and in the actor; and a good one with bad luck."""

import json
from pathlib import Path

import pytest
from pictures import encoded, tar_bytes
from processes import POISON, QUICK, contents, rows, run

SHAPE = (41, 43)


pytestmark = pytest.mark.chaos  # every test starts jobs with a Ray of their own


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, the fourth with the shape that a poisoned worker dies over."""
    members = {f"{seed:03d}.png": encoded(seed, SHAPE if seed == 3 else None) for seed in range(10)}
    path = tmp_path_factory.mktemp("poison") / "in.tar"
    path.write_bytes(tar_bytes(members))
    return path


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    words = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]
    return [*words, "--chunk-size", "5", "--max-failed", "0.2", "--masks", "png"]


@pytest.fixture(scope="module")
def undisturbed(shard: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    from jobs.__main__ import main

    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(["label", str(shard), str(output), *flags]) == 0
    return output


@pytest.mark.parametrize("stage", ["decode", "label"])
def test_a_poison_image_is_set_aside_and_its_neighbours_are_labeled(
    stage: str, shard: Path, flags: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    poison = {"PYTHONPATH": str(POISON), "POISON": f"{stage} {SHAPE[0]} {SHAPE[1]}"}
    code, _, err = run(["label", shard, tmp_path / "out", *flags], poison)
    assert code == 0, err
    found, expected = rows(tmp_path / "out"), rows(undisturbed)
    assert [row["status"] for row in found] == ["ok"] * 3 + ["killed_worker"] + ["ok"] * 6
    assert "died 2 times while it alone was being" in found[3]["error"]
    for row, good in zip(found, expected, strict=True):
        if row["index"] != 3:
            assert {**row, "seconds": 0} == {**good, "seconds": 0}
    annotations = json.loads((tmp_path / "out" / "coco" / "0000001.json").read_text())["annotations"]
    whole = json.loads((undisturbed / "coco" / "0000001.json").read_text())["annotations"]
    assert annotations == [entry for entry in whole if entry["image_id"] != found[3]["image_id"]]
    deaths = json.loads((tmp_path / "out" / "summary.json").read_text())["worker_deaths"]
    assert deaths.get(stage) == 4, deaths  # two over the chunk, two over the image alone


def test_a_good_chunk_with_bad_luck_is_labeled_whole(
    shard: Path, flags: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    """Its actor is killed three times while it works on the same image."""
    (tmp_path / "kills").mkdir()
    for number in range(3):
        (tmp_path / "kills" / str(number)).touch()
    luck = {"PYTHONPATH": str(POISON), "POISON": "label 41 43", "POISON_TIMES": str(tmp_path / "kills")}
    code, _, err = run(["label", shard, tmp_path / "out", *flags], luck)
    assert code == 0, err
    assert not list((tmp_path / "kills").iterdir())
    assert contents(tmp_path / "out") == contents(undisturbed)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["worker_deaths"] == {"label": 3}
