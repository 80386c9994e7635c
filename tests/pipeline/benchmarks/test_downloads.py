"""Each official layout, built small, through `list_samples` and `convert`, back to the protocol's class indices."""

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from scclip.pipeline.benchmarks.downloads import folder_pair, list_samples
from scclip.pipeline.benchmarks.label_ids import LABEL_TABLES, convert
from scclip.pipeline.benchmarks.sharding import members
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.resolve import InputError


def annotation(path: Path, values: list[int], palette: bool = False) -> None:
    """A PNG of one row per value; with a palette as VOC writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.repeat(np.array(values, np.uint8)[:, None], 3, 1), "P" if palette else "L")
    if palette:
        image.putpalette([value * 7 % 256 for value in range(768)])
    image.save(path)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(1, (20, 30), "PNG" if path.suffix == ".png" else "JPEG"))


def split(path: Path, keys: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(keys) + "\n")


def voc(root: Path, values: list[int]) -> None:
    home = root / "VOCdevkit" / "VOC2012"
    split(home / "ImageSets/Segmentation/val.txt", ["2007_000033"])
    picture(home / "JPEGImages/2007_000033.jpg")
    picture(home / "JPEGImages/2007_000999.jpg")  # not in the split
    annotation(home / "SegmentationClass/2007_000033.png", values, palette=True)


def context(root: Path, values: list[int]) -> None:
    home = root / "VOCdevkit" / "VOC2010"
    split(home / "ImageSets/SegmentationContext/val.txt", ["2008_000008"])
    picture(home / "JPEGImages/2008_000008.jpg")
    annotation(home / "SegmentationClassContext/2008_000008.png", values)


def coco(root: Path, values: list[int]) -> None:
    picture(root / "coco_stuff164k/images/val2017/000000000139.jpg")
    annotation(root / "coco_stuff164k/annotations/val2017/000000000139.png", values)
    annotation(root / "coco_stuff164k/annotations/val2017/000000000139_labelTrainIds.png", [0] * len(values))


def cityscapes(root: Path, values: list[int]) -> None:
    key = "frankfurt_000000_000294"
    picture(root / f"cityscapes/leftImg8bit/val/frankfurt/{key}_leftImg8bit.png")
    annotation(root / f"cityscapes/gtFine/val/frankfurt/{key}_gtFine_labelIds.png", values)


def ade(root: Path, values: list[int]) -> None:
    picture(root / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg")
    annotation(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", values)


# annotation values as the download has them, and the class indices that the protocol wants
CASES = {
    "voc21": (voc, [0, 1, 15, 20, 255], [0, 1, 15, 20, 255], "2007_000033"),
    "voc20": (voc, [0, 1, 15, 20, 255], [255, 0, 14, 19, 255], "2007_000033"),
    "context60": (context, [0, 1, 59, 255], [0, 1, 59, 255], "2008_000008"),
    "context59": (context, [0, 1, 59, 255], [255, 0, 58, 255], "2008_000008"),
    # person 0, stop sign 12, hair drier 88, toothbrush 89, banner 91, wood 181, no such thing 11 and 90
    "coco_stuff": (
        coco,
        [0, 12, 88, 89, 91, 181, 11, 90, 255],
        [0, 11, 78, 79, 80, 170, 255, 255, 255],
        "000000000139",
    ),
    "coco_object": (coco, [0, 12, 88, 89, 91, 181, 255], [1, 12, 79, 80, 0, 0, 0], "000000000139"),
    # road 7, person 24, bicycle 33, ego vehicle 1, license plate −1 as 255
    "cityscapes": (cityscapes, [7, 24, 33, 1, 255, 29], [0, 11, 18, 255, 255, 255], "frankfurt_000000_000294"),
    "ade20k": (ade, [0, 1, 150], [255, 0, 149], "ADE_val_00000001"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_official_layout(name: str, tmp_path: Path) -> None:
    build, values, expected, key = CASES[name]
    build(tmp_path, values)
    samples = list_samples(name, str(tmp_path))
    assert [sample.key for sample in samples] == [key]
    assert Path(samples[0].image).is_file()
    converted = convert(samples[0].labels, np.asarray(Image.open(samples[0].truth)))
    assert converted[:, 0].tolist() == expected


@pytest.mark.parametrize("name", sorted(CASES))
def test_shards_of_an_official_tree_read_back(name: str, tmp_path: Path) -> None:
    """Through the reader that labeling and evaluation use: the image byte for byte, the protocol's class indices."""
    build, values, expected, key = CASES[name]
    rows = [value for value in values for _ in range(7)]
    height = len(rows)
    build(tmp_path / "in", rows)
    (sample,) = list_samples(name, str(tmp_path / "in"))
    Path(sample.image).write_bytes(encoded(1, (height, 3), "PNG" if sample.image.endswith(".png") else "JPEG"))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.tar").write_bytes(tar_bytes(members(sample).items()))
    assert read_back(tmp_path / "shards") == {
        key: (Path(sample.image).read_bytes(), [v for v in expected for _ in range(7)])
    }


def read_back(shards: Path) -> dict[str, tuple[bytes, list[int]]]:
    """Key → image bytes and the first column of the truth."""
    found = {}
    for unit in plan_units([str(shards)], truth="seg.png"):
        for chunk in read_unit(unit, ChunkLimits(), truth="seg.png"):
            for row in chunk.images.to_pylist():
                plane = np.asarray(Image.open(io.BytesIO(row["truth"])))
                assert (plane == plane[:, :1]).all()
                found[row["key"]] = (row["data"], plane[:, 0].tolist())
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    build, values, _, key = CASES[name]
    build(tmp_path, values)
    (sample,) = list_samples(name, str(tmp_path))
    Path(sample.truth).rename(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match=f"expected the ground truth of {key} in ") as caught:
        list_samples(name, str(tmp_path))
    assert sample.truth in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_wrong_layout_names_the_file_that_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .*(val|val2017|validation)") as caught:
        list_samples(name, str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_class_counts_of_the_tables() -> None:
    counts = {name: len(set(values.tolist()) - {255}) for name, values in LABEL_TABLES.items()}
    assert counts == {
        "voc21": 21, "voc20": 20, "context60": 60, "context59": 59,
        "coco_object": 81, "coco_stuff": 171, "cityscapes": 19, "ade20k": 150,
    }  # fmt: skip


def test_folder_pairs_need_every_truth(tmp_path: Path) -> None:
    """Names that come twice, in other folders, are images of their own."""
    names = ("a", "one/a", "two/a")
    for name in names:
        picture(tmp_path / "images" / f"{name}.jpg")
        annotation(tmp_path / "truth" / f"{name}.png", [3, 255])
    samples = folder_pair(str(tmp_path / "images"), str(tmp_path / "truth"))
    pairs = {sample.key: sample.truth for sample in samples}
    assert pairs == {name: str(tmp_path / "truth" / f"{name}.png") for name in names}
    picture(tmp_path / "images" / "two" / "b.jpg")
    with pytest.raises(InputError, match=r"holds no two/b\.png"):
        folder_pair(str(tmp_path / "images"), str(tmp_path / "truth"))
