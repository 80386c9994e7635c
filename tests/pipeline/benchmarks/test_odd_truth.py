"""Ground truth as people have it: odd annotations, ids as text, class names, PNGs of any depth."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_inputs import COCO_CATEGORIES, SQUARE, coco_file, write_bytes
from odd_pictures import heavy_parts, png_chunk, png_of, samples_of
from pictures import encoded
from PIL import Image
from pycocotools import mask as coco_mask

from scclip.jobs.options.shard import ShardOptions
from scclip.jobs.shard import find_samples
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.benchmarks.coco import coco_samples
from scclip.pipeline.benchmarks.downloads import Sample, folder_pair
from scclip.pipeline.benchmarks.sharding import members
from scclip.pipeline.evaluation.truth import TruthConfig, read_truth
from scclip.vocabulary.vocabulary import Vocabulary

SIZE = (40, 60)
BOTTLE, CAR = 1, 0  # indices of COCO_CATEGORIES in the order of their ids


def planes(folder: Path, annotations: list[dict[str, Any]], ids: tuple[Any, ...] = (7,)) -> dict[str, np.ndarray]:
    """Key → the truth that a COCO file gives, its pictures written first."""
    images = [{"id": identity, "file_name": f"{n}.jpg", "height": 40, "width": 60} for n, identity in enumerate(ids)]
    for image in images:
        write_bytes(folder / "val" / str(image["file_name"]), encoded(1, SIZE, "JPEG"))
    file = coco_file(folder / "val.json", images, annotations)
    samples, classes = coco_samples(str(folder / "val"), str(file), background=False)
    assert classes == ["car", "bottle"]
    return {sample.key: truth(sample) for sample in samples}


def truth(sample: Sample) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(members(sample)[f"{sample.key}.seg.png"])))


def square() -> np.ndarray:
    """Where SQUARE lies, by pycocotools itself."""
    return np.asarray(coco_mask.decode(coco_mask.frPyObjects([SQUARE], *SIZE))[:, :, 0], bool)


def entry(number: int, **values: Any) -> dict[str, Any]:
    plain = {"id": number, "image_id": 7, "category_id": 44, "segmentation": [SQUARE], "area": 100, "iscrowd": 0}
    return {**plain, **values}


AREAS = ["null", "number as text", "not a number", "words"]


@pytest.mark.parametrize(
    "values", [{"area": None}, {"area": "12"}, {"area": float("nan")}, {"area": "large"}], ids=AREAS
)
def test_an_area_that_is_no_number_costs_no_shape(values: dict[str, Any], tmp_path: Path) -> None:
    (plane,) = planes(tmp_path, [entry(1, **values)]).values()
    assert (plane[square()] == BOTTLE).all() and (plane[~square()] == 255).all()


@pytest.mark.parametrize("missing", ["segmentation", "area", "id", "iscrowd"])
def test_an_annotation_without_a_key_ends_nothing(missing: str, tmp_path: Path) -> None:
    odd = entry(1)
    del odd[missing]
    (plane,) = planes(tmp_path, [odd, entry(2, category_id=3, segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]])]).values()
    assert (plane == CAR).any() and (plane == BOTTLE).any() == (missing != "segmentation")


def test_one_shape_that_is_none_among_polygons_costs_itself(tmp_path: Path) -> None:
    (plane,) = planes(tmp_path, [entry(1, segmentation=[SQUARE, [3, 3, 4, 4]])]).values()
    assert set(np.unique(plane)) <= {BOTTLE, 255}


def test_a_smaller_shape_lies_above_whatever_their_areas_say(tmp_path: Path) -> None:
    inner = [12.0, 7.0, 16.0, 7.0, 16.0, 11.0, 12.0, 11.0]
    entries = [entry(1, area=100.0), entry(2, segmentation=[inner], category_id=3, area=None)]
    (plane,) = planes(tmp_path, entries).values()
    assert plane[9, 14] == CAR and plane[6, 11] == BOTTLE


@pytest.mark.parametrize("identity", ["7", 7.0, " 7 ", "007"], ids=["text", "float", "blanks", "zeros"])
@pytest.mark.parametrize("side", ["annotation", "image", "category"])
def test_numbers_in_text_are_numbers(side: str, identity: Any, tmp_path: Path) -> None:
    if side == "category":
        text = str(identity).replace("7", "44") if isinstance(identity, str) else 44.0
        found = planes(tmp_path, [entry(1, category_id=text)])
    elif side == "image":
        found = planes(tmp_path, [entry(1)], ids=(identity,))
    else:
        found = planes(tmp_path, [entry(1, image_id=identity)])
    (plane,) = found.values()
    assert (plane[square()] == BOTTLE).all()


def test_annotations_of_no_image_leave_the_others_whole(tmp_path: Path) -> None:
    (plane,) = planes(tmp_path, [entry(1), entry(2, image_id="99"), entry(3, image_id=None)]).values()
    assert (plane[square()] == BOTTLE).all()


def class_names(folder: Path, names: list[str]) -> list[str]:
    """What the vocabulary reads of the classes.txt that a COCO file with these categories gives."""
    write_bytes(folder / "val/a.jpg", encoded(1, SIZE, "JPEG"))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    entries = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "area": 100}]
    document = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": entries, "categories": categories}
    (folder / "val.json").write_text(json.dumps(document))
    (folder / "out/classes.txt").unlink(missing_ok=True)
    options = ShardOptions(dataset="coco", source=str(folder / "val"), output="", truth=str(folder / "val.json"))
    find_samples(options, str(folder / "val"), str(folder / "out"))
    return [entry.name for entry in Vocabulary.load(str(folder / "out/classes.txt")).classes]


@pytest.mark.parametrize(
    "names",
    [
        ["building, other", "#hashtag", "road"],
        ["a # b", "c#", "# d", "e,f,g", ","],
        ['"quoted"', 'say "so"', '"', '""', '"a", "b"'],
        ["'apostrophe'", "back\\slash", "semi;colon", "colon: yes", "- dash"],
        ["sky", "خانه‌ها", "long\u00a0room", "straße", "建筑"],
        ["null", "true", "1", "{curly}", "[list]"],
    ],
    ids=["separators", "separators and blanks", "quotes", "apostrophes", "other scripts", "words of YAML"],
)
def test_class_names_read_back_in_their_order(names: list[str], tmp_path: Path) -> None:
    assert [" ".join(name.split()) for name in class_names(tmp_path, names)] == [" ".join(n.split()) for n in names]


PRINTABLE = st.text(st.one_of(st.sampled_from(",#\"' \\;:é"), st.characters(codec="utf-8")), min_size=1, max_size=12)
NAMES = PRINTABLE.map(str.strip).filter(lambda name: name and name.isprintable())


@settings(max_examples=30, deadline=None, derandomize=True)
@example([","])
@given(st.lists(NAMES, min_size=1, max_size=5, unique_by=lambda name: " ".join(name.lower().split())))
def test_whatever_the_classes_are_called_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    assert class_names(folder, names) == names


# PNGs


@pytest.mark.parametrize("adam7", [False, True], ids=["rows", "adam7"])
@pytest.mark.parametrize("palette", [False, True], ids=["grey", "palette"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_class_indices_are_the_stored_samples(depth: int, palette: bool, adam7: bool, tmp_path: Path) -> None:
    samples = samples_of(depth, SIZE)
    data = png_of(samples, depth, palette=palette, adam7=adam7)
    plane = read_plane(data)
    assert plane.dtype == np.uint8
    np.testing.assert_array_equal(plane, samples)
    known = range(16)
    np.testing.assert_array_equal(read_truth(data, SIZE, TruthConfig(), known), samples)
    write_bytes(tmp_path / "images/a.jpg", encoded(1, SIZE, "JPEG"))
    write_bytes(tmp_path / "masks/a.png", data)
    (sample,) = folder_pair(str(tmp_path / "images"), str(tmp_path / "masks"))
    np.testing.assert_array_equal(truth(sample), samples)


def test_sixteen_bits_are_stored_samples_too() -> None:
    samples = (np.arange(40 * 60).reshape(SIZE) * 27).astype(np.uint16)
    np.testing.assert_array_equal(read_plane(png_of(samples, 16)), samples)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparency_and_other_parts_change_no_index(depth: int) -> None:
    samples = samples_of(depth)
    for extra in (png_chunk(b"tRNS", b"\0\1"), png_chunk(b"gAMA", b"\0\0\xb1\x8f"), png_chunk(b"sBIT", bytes([depth]))):
        np.testing.assert_array_equal(read_plane(png_of(samples, depth, extra=extra)), samples)
    heavy = heavy_parts()["zTXt above 1 MiB"]
    np.testing.assert_array_equal(read_plane(png_of(samples, depth, extra=heavy)), samples)


def test_a_palette_shorter_than_the_depth_changes_no_index(tmp_path: Path) -> None:
    image = Image.fromarray(samples_of(2, SIZE) % 3, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for bits in (2, 4, 8):
        image.save(tmp_path / "a.png", bits=bits)
        np.testing.assert_array_equal(read_plane((tmp_path / "a.png").read_bytes()), samples_of(2, SIZE) % 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_stay_refused(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (4, 4)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="one plane of indices"):
        read_plane(buffer.getvalue())


def test_categories_are_those_of_the_helper() -> None:
    assert [category["name"] for category in sorted(COCO_CATEGORIES, key=lambda c: c["id"])] == ["car", "bottle"]
