"""Copied pictures are those that were labeled: upright, of formats that the trainer reads, and not taken for others."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from export_readers import FILE_FORMATS, FORMATS, READERS, assert_whole, exported, pictures, ultralytics_splits
from PIL import Image, ImageOps
from stand_in_runs import KINDS, number, numbered, picture_bytes, stand_in_run, write_folder, write_tar

from scclip.jobs.cli.main import main
from scclip.pipeline.annotations.schemas import MASK_SUFFIXES, ImageRecord
from scclip.pipeline.export.names import NameRules
from scclip.pipeline.export.pictures import copied
from scclip.pipeline.inputs.readers.tar import tar_bytes

# of the orientations 2 to 8
TURNS = [Image.Transpose[name] for name in ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE")]
TURNS += [Image.Transpose[name] for name in ("ROTATE_270", "TRANSVERSE", "ROTATE_90")]

# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_of_picture_is_seen_by_the_trainer(folder: Path, kind: str) -> None:
    """Ultralytics passes over .gif and .jfif, and looks at the content: a GIF called .png, a PNG called .gif."""
    extensions = ["png", "jpg", "jfif", "gif", "GIF", "webp", "bmp", "tif", *[name for name in KINDS if name == "avif"]]
    names = [f"{place}.{extension}" for place, extension in enumerate(extensions)]
    write_folder(folder / "in", numbered(names))
    for value, (name, content) in enumerate([("a.png", "gif"), ("b.gif", "png"), ("c.jpg", "webp")], len(names) + 1):
        (folder / "in" / name).write_bytes(picture_bytes(value, content))
    assert_whole(stand_in_run(folder / "run", [folder / "in"]), range(1, len(names) + 4), [kind])


@pytest.mark.skipif("avif" not in KINDS, reason="this Pillow has no AVIF")
@pytest.mark.parametrize("kind", FORMATS)
def test_an_avif_stays_an_avif_where_the_trainer_reads_it(folder: Path, kind: str) -> None:
    """Upright it is written again; a tar of labels tells it by its extension."""
    names = ["a.avif", "b.AVIF", "c.png"]
    shard = [(name, picture_bytes(value, name[-4:].lstrip(".").lower())) for value, name in enumerate(names, 1)]
    (folder / "in.tar").write_bytes(tar_bytes([*shard, ("turned.avif", picture_bytes(4, "avif", 6))]))
    output = exported(stand_in_run(folder / "run", [folder / "in.tar"]), kind)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(picture_bytes(4, "avif", 6)))).convert("L")
    turned = number(np.asarray(upright) > 127)
    assert sorted(READERS[kind](output)) == sorted([(1, 1), (2, 2), (3, 3), (turned, turned)])
    if kind in FILE_FORMATS:
        copies = {path.name: path for path in pictures(output).iterdir()}
        wanted = "png" if kind in ("yolo", "png-folders") else "avif"
        assert copies.keys() == {f"a.{wanted}", f"b.{wanted}", "c.png", f"turned.{wanted}"}
        assert wanted == "png" or copies["a.avif"].read_bytes() == shard[0][1]
        assert Image.open(copies[f"turned.{wanted}"]).getexif().get(0x0112, 1) == 1


def test_pictures_that_ultralytics_reads_keep_bytes_and_name(folder: Path) -> None:
    names = ["1.png", "2.jpg", "3.webp", "4.bmp", "5.TIFF", "6.jpeg"]
    write_folder(folder / "in", numbered(names))
    output = exported(stand_in_run(folder / "run", [folder / "in"]), "yolo")
    for name in names:
        copy = output / "images/train" / name.lower()
        assert copy.read_bytes() == (folder / "in" / name).read_bytes()


@pytest.mark.parametrize("place", ["here", "elsewhere", "moved", "relative"])
def test_the_data_yaml_is_found_from_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(["a.png", "b.png"]))])
    output = exported(run, "yolo", "--val", "0.4")
    if place == "moved":
        output = Path(shutil.move(output, folder / "deep" / "er"))
    monkeypatch.chdir(output if place == "here" else folder)
    given = {"here": "data.yaml", "relative": output.relative_to(folder) / "data.yaml"}.get(place, output / "data.yaml")
    assert ultralytics_splits(given)["train"] == (output / "images/train").resolve()


# --- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_copies_are_upright_where_the_run_turned_the_pictures(folder: Path, kind: str) -> None:
    (folder / "in").mkdir()
    wanted = []
    for extension in ("jpg", "png", "webp"):
        for orientation in range(1, 9):
            data = picture_bytes(orientation, extension, orientation)
            (folder / "in" / f"{extension}{orientation}.{extension}").write_bytes(data)
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L")
            wanted.append((number(np.asarray(upright) > 127),) * 2)
    output = exported(stand_in_run(folder / "run", [folder / "in"]), kind)
    assert sorted(READERS[kind](output)) == sorted(wanted)
    for path in output.rglob("images/train/*.*"):
        assert Image.open(path).getexif().get(0x0112, 1) == 1
        if path.stem.endswith("1"):
            assert path.read_bytes() == (folder / "in" / path.name).read_bytes()


def test_a_turned_copy_keeps_colour_profile_and_other_tags(folder: Path) -> None:
    (folder / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    for name, form in (("a.jpg", "JPEG"), ("b.webp", "WEBP"), ("c.png", "PNG")):
        image = Image.new("RGB", (40, 24), (200, 30, 30))
        image.save(folder / "in" / name, form, exif=exif, icc_profile=b"a profile")
    output = exported(stand_in_run(folder / "run", [folder / "in"]), "coco")
    for path in (output / "images/train").iterdir():
        copy = Image.open(path)
        assert copy.size == (24, 40) and copy.info["icc_profile"] == b"a profile"
        assert dict(copy.getexif()) == {0x010F: "maker"}


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P", "CMYK", "1"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_tiffs_are_turned_without_loss(mode: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    image = Image.fromarray(values.astype(np.uint16)[..., 0] * 257) if mode == "I;16" else Image.fromarray(values)
    image = image if mode == "I;16" else image.convert(mode)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(buffer, "TIFF", exif=exif)
    height, width = (30, 20) if orientation >= 5 else (20, 30)
    known = ImageRecord(key="a", file_name="a.tif", index=0, width=width, height=height, orientation=orientation)
    data, extension = copied(buffer.getvalue(), known, NameRules(), upright=True)
    copy = Image.open(io.BytesIO(data))
    assert (extension, copy.getexif().get(0x0112, 1)) == ("tif", 1)
    np.testing.assert_array_equal(np.asarray(copy), np.asarray(image.transpose(TURNS[orientation - 2])))


def test_copies_stay_as_they_are_where_the_run_ignored_the_orientation(folder: Path) -> None:
    (folder / "in").mkdir()
    for orientation in (3, 6):
        (folder / "in" / f"{orientation}.jpg").write_bytes(picture_bytes(orientation, "jpg", orientation))
    output = exported(stand_in_run(folder / "run", [folder / "in"], exif="ignore"), "coco")
    assert sorted(READERS["coco"](output)) == [(3, 3), (6, 6)]
    for name in ("3.jpg", "6.jpg"):
        assert (output / "images/train" / name).read_bytes() == (folder / "in" / name).read_bytes()


# --- an input whose time has changed ----------------------------------------------------------------------------------


def touch(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.mark.parametrize("kind", ["coco", "png"])
def test_a_time_alone_is_no_change(folder: Path, kind: str) -> None:
    write_folder(folder / "in", numbered(["a.png", "b.jpg"]))
    write_tar(folder / "in" / "c.tar", numbered(["c.png", "d.png"], 3))
    run = stand_in_run(folder / "run", [folder / "in" / "c.tar", folder / "in" / "a.png", folder / "in" / "b.jpg"])
    for path in (folder / "in").iterdir():
        touch(path)
    assert_whole(run, [1, 2, 3, 4], [kind])


@pytest.mark.parametrize("change", ["keys", "order", "size", "length"])
def test_another_file_of_the_same_length_is_a_change(
    folder: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard, data = folder / "in.tar", {name: picture_bytes(1, "bmp") for name in ("a.bmp", "b.bmp")}
    shard.write_bytes(tar_bytes(data.items()))
    run = stand_in_run(folder / "run", [shard])
    turned = io.BytesIO()
    Image.new("RGB", (8, 32)).save(turned, "BMP")  # as many bytes as 16 × 16
    other = {
        "keys": {"a.bmp": data["a.bmp"], "c.bmp": data["b.bmp"]},
        "order": dict(reversed(data.items())),
        "size": {"a.bmp": turned.getvalue(), "b.bmp": data["b.bmp"]},
        "length": {"a.bmp": data["a.bmp"], "b.bmp": data["b.bmp"] * 20},
    }
    shard.write_bytes(tar_bytes(other[change].items()))
    touch(shard)
    assert main(["export", str(run), str(folder / "out"), "--format", "coco", "--images"]) == 1
    said = capsys.readouterr().err
    assert "in.tar" in said and "leave --images out" in said and len(said.splitlines()) == 1


# --- files that are there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("png", "train/0000001.tar"),
        ("parquet", "data/train-0000001.parquet"),
        ("coco", "annotations/instances_train.json"),
        ("coco", "_export/0000001.train.images"),
        ("yolo", "data.yaml"),
        ("yolo", "summary.json"),
    ],
)
def test_a_foreign_file_in_the_way_is_named_and_kept(
    folder: Path, kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(["a.png", "b.png"]))])
    foreign = folder / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"foreign")
    assert main(["export", str(run), str(folder / "out"), "--format", kind, "--images"]) == 1
    said = capsys.readouterr().err
    assert name in said and "choose another OUTPUT" in said and len(said.splitlines()) == 1
    assert foreign.read_bytes() == b"foreign"
    foreign.unlink()
    assert main(["export", str(run), str(folder / "out"), "--format", kind, "--images"]) == 0
    assert sorted(READERS[kind](folder / "out")) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_complete_export_in_an_object_store_is_not_made_again(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(["a.png", "t 12:30.png"]))])
    words = ["export", str(run), f"memory://{folder.name}-{kind}", "--format", kind, "--images"]
    assert main(words) == 0 and "nothing to do" not in capsys.readouterr().out
    assert main(words) == 0 and "nothing to do" in capsys.readouterr().out


# --- tars -------------------------------------------------------------------------------------------------------------


def test_without_pictures_a_changed_name_still_tells_its_key(folder: Path) -> None:
    names = ["10.22.33.png", "plain.png", "dog.jpg", "dog.png"]
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    assert main(["export", str(run), str(folder / "out"), "--format", "png"]) == 0
    with tarfile.open(folder / "out/train/0000001.tar") as tar:
        said = {
            member.name: json.loads(tar.extractfile(member).read())["key"] for member in tar if "json" in member.name
        }  # type: ignore[union-attr]
        assert "plain.seg.png" in tar.getnames()
    assert said == {"10_22_33.json": "10.22.33", "dog~2.json": "dog", "dog~3.json": "dog"}


@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_masks_of_older_runs_are_found_under_their_keys(folder: Path, kind: str) -> None:
    keys = ["t", "t.v2", "10.22.33", "10.22.34"]  # one is the beginning of another
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered([f"{key}.png" for key in keys]))])
    masks = run / "masks/0000001.tar"
    with tarfile.open(masks) as tar:
        planes = [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
    names = [f"{key}.{suffix}" for key in keys for suffix in MASK_SUFFIXES.values()]
    masks.write_bytes(tar_bytes(zip(names, planes, strict=True)))
    output = exported(run, kind, "--confidence-floor", "0.1")
    assert sorted(READERS[kind](output)) == [(1, 1), (2, 2), (3, 3), (4, 4)]
