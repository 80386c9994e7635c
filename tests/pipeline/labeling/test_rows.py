"""What the operator does with a batch, without Ray: a picture in any form gives one mask; what is none is a row."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pictures import encoded, picture
from PIL import Image

from scclip.encoder.checkpoints import load_clip
from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.pipeline.annotations.png import read_plane
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.labeling.labeler import Labeler, LabelerSpec
from scclip.pipeline.labeling.models import find_model, load_vocabulary
from scclip.pipeline.labeling.rows import OUTPUT_SCHEMA, RowsConfig, decode_rows, describe_rows, label_rows
from scclip.pipeline.labeling.text_features import text_features
from scclip.segmentation.settings import segmenter_config
from scclip.segmentation.types import SegmentationOptions

SIZE = (60, 80)
Tools = tuple[Labeler, RowsConfig]


@pytest.fixture(scope="module")
def tools(small_model: str, vocabulary_file: Any) -> Tools:
    vocabulary = load_vocabulary(str(vocabulary_file))
    clip = load_clip(find_model(ModelConfig(model=small_model, precision="float32"), cuda=False))
    options = SegmentationOptions(short_side=64, window=64, stride=32, window_batch=4)
    config = segmenter_config(options, vocabulary, clip.source, cuda=False)
    spec = LabelerSpec.of(clip, vocabulary, text_features(clip, vocabulary), config, "cpu")
    return spec.start(), RowsConfig(categories=vocabulary.categories)


def labeled(tools: Tools, column: Any, **columns: Sequence[Any]) -> list[dict[str, Any]]:
    labeler, config = tools
    table = pa.table({**columns, "image": column})
    return describe_rows(label_rows(decode_rows(table, config), labeler), config).to_pylist()


def ray_tensors(arrays: Sequence[np.ndarray]) -> pa.Array:
    from ray.data.extensions import ArrowTensorArray, ArrowVariableShapedTensorArray

    same = len({array.shape for array in arrays}) == 1
    return ArrowTensorArray.from_numpy(arrays) if same else ArrowVariableShapedTensorArray.from_numpy(arrays)


def ray_objects(values: Sequence[Any]) -> pa.Array:
    from ray.data.extensions import ArrowPythonObjectArray

    return ArrowPythonObjectArray.from_objects(values)


def test_every_form_of_a_picture_gives_the_same_row(tools: Tools) -> None:
    pictures, files = [picture(seed, SIZE) for seed in range(3)], [encoded(seed, SIZE) for seed in range(3)]
    expected = labeled(tools, files)
    masks = [read_plane(row["mask"]) for row in expected]
    direct = tools[0].segmenter.segment(pictures)
    assert all(np.array_equal(mask, one.labels) for mask, one in zip(masks, direct, strict=True))
    forms = {
        "large binary": pa.array(files, pa.large_binary()),
        "struct": [{"bytes": file, "path": "a.png"} for file in files],
        "list": [[file, b"second"] for file in files],
        "dictionary": pa.array(files).dictionary_encode(),
        "tensors": ray_tensors(pictures),
        "Arrow's tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(pictures)),
        "Pillow": ray_objects([Image.fromarray(one) for one in pictures]),
        "sliced": pa.chunked_array([pa.array([b"first", *files]).slice(1, 1), pa.array(files).slice(1)]),
    }
    for name, column in forms.items():
        rows = labeled(tools, column)
        assert [{**row, "image": None} for row in rows] == [{**row, "image": None} for row in expected], name
    ragged = labeled(tools, ray_tensors([pictures[0], picture(9, (40, 70)), pictures[1]]))
    assert [ragged[place]["mask"] for place in (0, 2)] == [row["mask"] for row in expected[:2]]


def test_grey_arrays_are_the_grey_files(tools: Tools) -> None:
    grey = [np.asarray(Image.fromarray(picture(seed, SIZE)).convert("L")) for seed in range(2)]
    files = []
    for one in grey:
        Image.fromarray(one).save(buffer := io.BytesIO(), "PNG")
        files.append(buffer.getvalue())
    masks = [row["mask"] for row in labeled(tools, files)]
    assert masks == [row["mask"] for row in labeled(tools, ray_tensors(grey))]
    assert masks == [row["mask"] for row in labeled(tools, ray_tensors([one[:, :, None] for one in grey]))]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (picture(0, SIZE) / 255, "float64"),
        (picture(0, SIZE).astype(np.float32) / 255, "float32"),
        (np.dstack([picture(0, SIZE), np.full(SIZE, 255, np.uint8)]), r"\(60, 80, 4\)"),  # alpha, or CMYK: who knows
        (picture(0, SIZE).transpose(2, 0, 1), r"\(3, 60, 80\)"),
        (picture(0, SIZE).astype(np.uint16), "uint16"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
    ],
)
def test_arrays_that_are_no_pictures_are_rows_that_say_so(tools: Tools, array: np.ndarray, words: str) -> None:
    (row,) = labeled(tools, ray_tensors([array]), key=[7])
    assert row["status"] == "unsupported" and row["mask"] is row["segments"] is row["mean_confidence"] is None
    assert row["key"] == 7 and re.search(words, row["error"]) and "uint8 RGB" in row["error"]


def test_broken_rows_stand_among_labeled_ones(tools: Tools) -> None:
    column = [encoded(0, SIZE), b"", None, b"\xff\xd8\xff\xe0 none", encoded(1, SIZE)]
    rows = labeled(tools, column, key=list("abcde"))
    assert [row["status"] for row in rows] == ["ok", "empty", "unreadable", "undecodable", "ok"]
    assert [row["key"] for row in rows] == list("abcde")
    alone = [labeled(tools, [column[place]])[0]["mask"] for place in (0, 4)]
    assert [rows[0]["mask"], rows[4]["mask"]] == alone
    nothing = labeled(tools, pa.array([None, None], pa.null()))
    assert [row["status"] for row in nothing] == ["unreadable"] * 2


def test_segments_are_what_the_mask_shows(tools: Tools) -> None:
    from pycocotools import mask as coco_mask

    _, config = tools
    for row in labeled(tools, [encoded(seed) for seed in range(4)]):
        plane = read_plane(row["mask"])
        assert {each["name"] for each in row["segments"]} == {config.categories[c] for c in np.unique(plane) if c}
        for each in row["segments"]:
            shown = coco_mask.decode({**each["rle"], "counts": each["rle"]["counts"].encode()})
            assert np.array_equal(shown, plane == each["category_id"]) and "image_id" not in each


def test_the_schema_does_not_depend_on_the_rows(tools: Tools) -> None:
    labeler, config = tools
    for files in ([encoded(0)], [b"broken"], []):
        table = pa.table({"image": pa.array(files, pa.binary())})
        out = describe_rows(label_rows(decode_rows(table, config), labeler), config)
        assert out.schema == pa.schema([("image", pa.binary()), *OUTPUT_SCHEMA]) and len(out) == len(files)


def test_columns_are_found_and_refused(tools: Tools) -> None:
    _, config = tools
    named = RowsConfig(categories=config.categories, image_column="photo", prefix="our_", decode=DecodeConfig())
    assert named.find_image(["mask", "image", "photo"]) == "photo"
    assert config.find_image(["png", "caption", "jpg"]) == "jpg"
    with pytest.raises(UserError, match="no image_column 'photo'; set image_column to one of image, a"):
        named.find_image(["image", "a"])
    with pytest.raises(UserError, match="column 'our_error' is in the data already; give prefix"):
        named.find_image(["photo", "our_error"])
