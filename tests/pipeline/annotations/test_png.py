"""png.py: planes come back from other readers as they were, in fewer bytes than Pillow's."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from scclip.pipeline.annotations.png import png, read_plane

RNG = np.random.default_rng(0)
REGIONS = np.kron(RNG.integers(0, 21, (30, 40)), np.ones((8, 8), int))
PLANES = {
    "regions": REGIONS.astype(np.uint8),
    "not contiguous": REGIONS.astype(np.uint8)[::-2, ::3],
    "more than 254 classes": (REGIONS * 199).astype(np.uint16),
    "noise": RNG.integers(0, 256, (31, 33)).astype(np.uint8),
    "one row": np.arange(7, dtype=np.uint8)[None],
    "one column": np.arange(7, dtype=np.uint16)[:, None] * 9362,
    "one pixel": np.full((1, 1), 255, np.uint8),
}


@pytest.mark.parametrize("name", PLANES)
def test_planes_are_grey_pngs_of_their_own_depth(name: str) -> None:
    plane, data = PLANES[name], png(PLANES[name])
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # the checksums too
        assert (image.format, image.mode) == ("PNG", "L" if plane.dtype == np.uint8 else "I;16")
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    for found in (read_plane(data), other):
        assert found.dtype == plane.dtype and np.array_equal(found, plane)


def test_regions_take_fewer_bytes_than_with_pillow() -> None:
    for plane in (PLANES["regions"], PLANES["more than 254 classes"]):
        buffer = io.BytesIO()
        Image.fromarray(plane).save(buffer, "PNG", compress_level=4)
        assert len(png(plane)) <= 1.2 * len(buffer.getvalue())


def test_a_picture_in_colours_comes_back() -> None:
    picture = RNG.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
