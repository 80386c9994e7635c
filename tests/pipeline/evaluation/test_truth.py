"""Truth planes as category indices, pixel by pixel; whatever is no class is named."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scclip.pipeline.evaluation.truth import TruthConfig, TruthError, read_truth


def encoded(plane: Any, dtype: type = np.uint8, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.array(plane, dtype))
    (image.convert(mode) if mode else image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("plane", "dtype", "config", "known", "wanted"),
    [
        ([[0, 2, 255]], np.uint8, TruthConfig(), range(3), [[0, 2, 255]]),
        ([[0, 2, 255]], np.uint8, TruthConfig(offset=1), range(1, 4), [[1, 3, 255]]),
        ([[0, 2, 11]], np.uint8, TruthConfig(offset=1, ignore=(11, 0)), range(1, 4), [[255, 3, 255]]),
        ([[254, 0, 255]], np.uint8, TruthConfig(offset=1), range(1, 300), [[255, 1, 65535]]),
        ([[0, 298, 65535]], np.uint16, TruthConfig(offset=1), range(1, 300), [[1, 299, 65535]]),
        ([[255, 7, 65535]], np.uint16, TruthConfig(ignore=(255,)), range(9), [[255, 7, 255]]),
    ],
)
def test_values_become_categories(
    plane: Any, dtype: type, config: TruthConfig, known: range, wanted: list[list[int]]
) -> None:
    truth = read_truth(encoded(plane, dtype), (1, 3), config, known)
    assert truth.tolist() == wanted
    assert truth.dtype == (np.uint16 if 65535 in wanted[0] else np.uint8)


@pytest.mark.parametrize(
    ("data", "status", "named"),
    [
        (None, "no_truth", "no ground truth"),
        (b"", "no_truth", "no ground truth"),
        (b"no picture", "bad_truth", "cannot identify"),
        (encoded(np.zeros((2, 3, 3))), "bad_truth", "one plane of indices"),
        (encoded([[0, 1, 7]]), "bad_truth", "holds 7, which is no class"),
        (encoded([[0], [1]]), "truth_size", "1 × 2 pixels, the image 3 × 1"),
        (encoded([[0], [1], [2]]), "truth_size", "--exif ignore"),
        (encoded([[0]])[:16] + bytes([0, 1, 0, 0] * 2), "truth_size", "65536 × 65536 pixels, the image 3 × 1"),
    ],
)
def test_what_cannot_be_used_is_named(data: bytes | None, status: str, named: str) -> None:
    with pytest.raises(TruthError, match=named) as caught:
        read_truth(data, (1, 3), TruthConfig(), range(3))
    assert caught.value.status == status


def test_palette_pngs_hold_indices() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([value * 7 % 256 for value in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert read_truth(buffer.getvalue(), (1, 3), TruthConfig(offset=1), range(1, 4)).tolist() == [[1, 2, 3]]
