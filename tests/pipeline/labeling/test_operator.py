"""The Ray Data operator and `scclip label`: equal labels on the demo's scenes, from every reader, in every form."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scclip.errors import UserError
from scclip.jobs.cli.main import main
from scclip.jobs.demo import scene_files, write_shards
from scclip.ray import DatasetLabeler, LabelerConfig, build_labeler, label_dataset

SCENES, FEW = [12, pytest.param(64, marks=pytest.mark.slow)], 6
BROKEN = b"\xff\xd8\xff\xe0 no picture"
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=SCENES)
def scenes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, scenes: int) -> Path:
    """The demo's scenes in shards; the first few of them as files, and as Parquet with one that is broken."""
    root = tmp_path_factory.mktemp("operator")
    write_shards(str(root), scenes)
    (root / "files").mkdir()
    cells = [{"bytes": scene_files(index)["png"], "path": f"{index:06d}.png"} for index in range(scenes)]
    for cell in cells[:FEW]:
        (root / "files" / cell["path"]).write_bytes(cell["bytes"])
    (root / "table").mkdir()
    for number, rows in enumerate((cells[: scenes // 2 + 1], cells[scenes // 2 + 1 :])):
        broken = [{"bytes": BROKEN, "path": f"broken-{number}.jpg"}, {"bytes": None, "path": "nothing.jpg"}]
        table = {"image": [*rows, *broken], "place": list(range(len(rows) + 2)), "tags": [["a", "b"]] * (len(rows) + 2)}
        pq.write_table(pa.table(table), root / "table" / f"{number}.parquet")
    return root


@pytest.fixture(scope="module")
def commands(local_ray: None, inputs: Path) -> Rows:
    """Key → mask, segments and mean confidence, as the command writes them."""
    output = inputs / "labels"
    assert main(["label", str(inputs / "shards"), str(output), "--vocabulary", "demo", "--masks", "png"]) == 0
    images = ds.dataset(output / "images").to_table().to_pylist()
    segments = ds.dataset(output / "segments").to_table().to_pylist()
    masks = dict(tar_members(output / "masks"))
    rows = {}
    for image in images:
        own = [dict(row) for row in segments if row["image_id"] == image["image_id"]]
        for row in own:
            del row["image_id"]
        rows[image["key"]] = {"mask": masks[f"{image['key']}.seg.png"], "segments": own}
        rows[image["key"]] |= {name: image[name] for name in ("mean_confidence", "status", "error")}
    return rows


@pytest.fixture(scope="module")
def labeler(local_ray: None) -> DatasetLabeler:
    return build_labeler(LabelerConfig(vocabulary="demo"))


def tar_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                yield member.name, tar.extractfile(member).read()  # type: ignore[union-attr]


def check(row: dict[str, Any], expected: dict[str, Any], names: dict[int, str]) -> None:
    segments = [dict(segment) for segment in row["segments"]]
    assert [segment.pop("name") for segment in segments] == [names[segment["category_id"]] for segment in segments]
    for segment in segments:
        segment["bbox"] = list(segment["bbox"])
    assert {**{name: row[name] for name in expected}, "segments": segments} == expected


def names_of(labels: Path) -> dict[int, str]:
    classes = json.loads((labels / "run.json").read_text())["vocabulary"]["classes"]
    return {number: entry["name"] for number, entry in enumerate(classes, start=1)}


def test_parquet_in_and_out_gives_the_commands_labels(
    inputs: Path, commands: Rows, labeler: DatasetLabeler, scenes: int
) -> None:
    import ray

    labeler(ray.data.read_parquet(str(inputs / "table"))).write_parquet(str(inputs / "labeled"))
    table = ds.dataset(inputs / "labeled", format="parquet").to_table()
    assert table.column_names == [
        "image", "place", "tags", "mask", "segments", "mean_confidence", "status", "error",
    ]  # fmt: skip
    rows, names = {row["image"]["path"]: row for row in table.to_pylist()}, names_of(inputs / "labels")
    assert len(commands) == scenes and len(table) == scenes + 4
    for key, expected in commands.items():
        check(rows[f"{key}.png"], expected, names)
        assert rows[f"{key}.png"]["image"]["bytes"] == scene_files(int(key))["png"]
        assert rows[f"{key}.png"]["tags"] == ["a", "b"]
    for number in range(2):
        broken = rows[f"broken-{number}.jpg"]
        assert (
            broken["status"] == "undecodable"
            and broken["error"]
            and broken["place"] == (scenes // 2 + 1, scenes // 2 - 1)[number]
        )
        assert broken["mask"] is broken["segments"] is broken["mean_confidence"] is None
    assert rows["nothing.jpg"]["status"] == "unreadable"


@pytest.mark.slow
def test_arrays_and_samples_of_ray_datas_readers_give_the_same(
    inputs: Path, commands: Rows, labeler: DatasetLabeler, scenes: int
) -> None:
    import ray

    files, shard = str(inputs / "files"), str(inputs / "shards" / "scenes-00000.tar")
    arrays = labeler(ray.data.read_images(files, include_paths=True))
    encoded = labeler(ray.data.read_binary_files(files, include_paths=True))
    for row in [*arrays.take_all(), *encoded.take_all()]:
        assert row["mask"] == commands[Path(row["path"]).stem]["mask"]
    samples = labeler(ray.data.read_webdataset(shard, decoder=None)).take_all()
    assert len(samples) == scenes // 4
    for row in samples:
        assert row["mask"] == commands[row["__key__"]]["mask"] and json.loads(row["json"])["seed"]


@pytest.mark.slow
def test_rows_are_made_and_kept_by_functions_of_ones_own(inputs: Path, commands: Rows, local_ray: None) -> None:
    import ray

    def half(row: dict[str, Any]) -> dict[str, Any]:
        return {"name": row["path"], "mask": "mine", "photo": row["image"][:, : row["image"].shape[1] // 2]}

    def size(row: dict[str, Any]) -> dict[str, Any]:
        return {"size": Image.open(io.BytesIO(row["our_mask"])).size, "mask": row["mask"], "status": row["our_status"]}

    config = LabelerConfig(vocabulary="demo", image_column="photo", prefix="our_", batch_size=2)
    dataset = ray.data.read_images(str(inputs / "files"), include_paths=True)
    rows = label_dataset(dataset, config, preprocess=half, postprocess=size).take_all()
    widths = [Image.open(path).width // 2 for path in sorted((inputs / "files").iterdir())]
    assert sorted(row["size"][0] for row in rows) == sorted(widths)
    assert {(row["mask"], row["status"]) for row in rows} == {("mine", "ok")}


def test_columns_that_do_not_fit_are_refused_before_anything_runs(inputs: Path, labeler: DatasetLabeler) -> None:
    import ray

    taken = ray.data.from_arrow(pa.table({"image": [b""], "status": ["new"]}))
    with pytest.raises(UserError, match=r"column 'status' is in the data already; give prefix="):
        labeler(taken)
    with pytest.raises(UserError, match=r"no column of images; set image_column to one of photo, text"):
        labeler(ray.data.from_arrow(pa.table({"photo": [b""], "text": ["new"]})))


def test_an_empty_dataset_stays_empty(labeler: DatasetLabeler) -> None:
    import ray

    empty = ray.data.from_arrow(pa.table({"image": pa.array([], pa.binary())}))
    assert labeler(empty).take_all() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exif": "turn"}, "exif 'turn' is unknown"),
        ({"batch_size": 0}, "batch_size 0 must be at least 1"),
        ({"method": "magic"}, "method 'magic' is unknown"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelerConfig(**options)


def test_importing_the_operator_loads_neither_ray_nor_pytorch() -> None:
    code = "import sys; from scclip.ray import LabelerConfig; LabelerConfig(vocabulary=['a', 'b'])\n"
    code += "print({'ray', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
