"""The memory that decoding takes follows from the pixels of the header, whatever the file and its samples are."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import YCBCR
from PIL import Image
from processes import PEAK

from scclip.pipeline.inputs import decoding
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.names import AVIF

SIDE, SPARE = 6144, 64 * 2**20  # pixels; bytes for bands and buffers
MEASURE = (
    PEAK
    + """
import sys
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
small, large = (open(path, "rb").read() for path in sys.argv[1:])
decode_image(small, DecodeConfig())
before = peak()
decode_image(large, DecodeConfig())
print(peak() - before)
"""
)


def empty_png(side: int, kind: int, depth: int, channels: int) -> bytes:
    """A PNG of zeros: some kilobytes for any size."""
    packer, row = zlib.compressobj(1), b"\0" + bytes(side * channels * depth // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(("kind", "depth", "channels"), [(2, 8, 3), (6, 16, 4), (0, 16, 1), (4, 8, 2)])
def test_a_large_png_takes_eight_bytes_a_pixel(kind: int, depth: int, channels: int, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    small.write_bytes(empty_png(16, kind, depth, channels))
    large.write_bytes(empty_png(SIDE, kind, depth, channels))
    assert taken(small, large) <= 8 * SIDE**2 + SPARE


def taken(small: Path, large: Path) -> int:
    """Bytes that decoding the large file takes, after the small one of its kind."""
    run = subprocess.run([sys.executable, "-c", MEASURE, small, large], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [
        ("TIFF", {"compression": "tiff_lzw"}, 8),
        ("BMP", {}, 8),
        ("GIF", {}, 8),
        ("JPEG", {}, 8),
        ("JPEG", {"progressive": True}, 10),
        pytest.param("AVIF", {"speed": 10}, 13, marks=pytest.mark.skipif(not AVIF, reason="this Pillow has no AVIF")),
        ("WEBP", {"lossless": True}, 16),
        ("WEBP", {"quality": 80}, 16),
    ],
)
def test_other_formats_take_what_their_decoders_hold(
    kind: str, options: dict[str, Any], most: int, tmp_path: Path
) -> None:
    paths = []
    for side in (16, 4096):
        row = np.arange(side, dtype=np.uint32)
        picture = np.stack(np.broadcast_arrays(row[:, None] % 251, row % 253, row[:, None] // 64), axis=2)
        paths.append(tmp_path / f"{side}.{kind.lower()}")
        Image.fromarray(picture.astype(np.uint8)).save(paths[-1], kind, **options)
    assert taken(*paths) <= most * 4096**2 + SPARE


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", YCBCR, "LAB", "I;16", "I", "F"])
@pytest.mark.parametrize("scale", [1, 300, 100_000])
def test_bands_give_the_pixels_of_the_whole(mode: str, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).integers(0, 256, (37, 23, 4))
    if mode in ("I", "F", "I;16"):
        plane = values[..., 0] * scale - (7 if mode != "I;16" and scale > 1 else 0)
        image = Image.fromarray(plane.astype({"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]))
    else:
        image = Image.fromarray(values.astype(np.uint8), "RGBA")
        image = image.convert("RGB").convert(mode) if mode not in ("RGBA", "LAB") else image
        image = Image.merge("LAB", image.split()[:3]) if mode == "LAB" else image
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    whole = decode_image(buffer.getvalue(), DecodeConfig()).rgb
    monkeypatch.setattr(decoding, "BAND", 60)
    banded = decode_image(buffer.getvalue(), DecodeConfig()).rgb
    assert np.array_equal(whole, banded) and banded.flags.c_contiguous
    if mode not in ("I", "F", "I;16"):
        assert np.array_equal(whole, np.asarray(Image.open(buffer).convert("RGB")))
