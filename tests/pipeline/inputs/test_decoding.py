"""Decoding against OpenCV, Pillow and arithmetic; every bad input is one DecodeError or one row with its reason."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import YCBCR
from PIL import Image

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import Chunk, EncodedImage, ResumePoint, encoded_chunk
from scclip.pipeline.inputs.decoding import DECODED_SCHEMA, DecodeConfig, DecodeError, decode_chunk, decode_image
from scclip.pipeline.inputs.headers import header_size

CONFIG = DecodeConfig()


def scene(height: int = 37, width: int = 53) -> np.ndarray:
    """(H, W, 3) uint8 with gradients and edges, no symmetry."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], axis=2).astype(np.uint8)
    image[:5, :9] = (250, 10, 20)
    return image


def encode(image: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def cv2_rgb(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)[:, :, ::-1]


def failure(data: bytes, config: DecodeConfig = CONFIG) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, config)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (1, 3000), (3000, 1)])
def test_every_format_equals_opencv_and_its_header_tells_the_size(format: str, shape: tuple[int, int]) -> None:
    data = encode(scene(*shape), format, **({"lossless": True} if format == "WEBP" else {}))
    decoded = decode_image(data, CONFIG)
    assert decoded.rgb.shape == (*shape, 3) and decoded.rgb.flags.c_contiguous and decoded.rgb.dtype == np.uint8
    assert header_size(data) == shape[::-1] and decoded.orientation == 1
    if format != "GIF":  # its palette is chosen by Pillow
        assert np.array_equal(decoded.rgb, cv2_rgb(data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", YCBCR, "RGBX"])
def test_other_modes_are_what_convert_gives(mode: str) -> None:
    source = Image.fromarray(scene()).convert(mode)
    format = {"CMYK": "TIFF", "YCbCr": "TIFF", "RGBX": "TIFF", "PA": "TIFF"}.get(mode, "PNG")
    if mode == "PA":
        source = Image.fromarray(scene()).convert("P")
    data = encode(source, format, **({"transparency": 3} if mode == "P" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode_image(data, CONFIG).rgb, expected)


def test_alpha_is_dropped_not_composed() -> None:
    image = np.dstack([scene(), np.zeros((37, 53), np.uint8)])
    assert np.array_equal(decode_image(encode(image, "PNG"), CONFIG).rgb, scene())
    assert np.array_equal(decode_image(encode(image, "WEBP", lossless=True, exact=True), CONFIG).rgb, scene())


def test_adobe_cmyk_is_not_inverted() -> None:
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert decode_image(encode(white, "JPEG"), CONFIG).rgb.min() > 250
    data = encode(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode_image(data, CONFIG).rgb.astype(int) - cv2_rgb(data)).max() <= 3


def test_deep_samples_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        assert np.array_equal(decode_image(encode(ramp, format), CONFIG).rgb[:, :, 0], ramp >> 8)
    deep = cv2.imencode(".png", np.dstack([ramp, ramp[::-1], ramp.T]))[1].tobytes()
    assert np.abs(decode_image(deep, CONFIG).rgb.astype(int) - cv2_rgb(deep)).max() <= 1
    unit = (ramp / 65535).astype(np.float32)
    expected = (unit * 255 + 0.5).astype(np.uint8)
    for values in (unit, unit * 255, unit * 2000 - 1000):
        assert np.abs(decode_image(encode(values, "TIFF"), CONFIG).rgb[:, :, 1].astype(int) - expected).max() <= 1
    unit[0, 0], unit[0, 1] = np.nan, 0
    assert decode_image(encode(unit, "TIFF"), CONFIG).rgb[0, 0].tolist() == [0, 0, 0]
    stretched = decode_image(encode((ramp.astype(np.int32) - 30000) * 1000, "TIFF"), CONFIG).rgb
    assert stretched.min() == 0 and stretched.max() == 255
    black = decode_image(encode(np.full((4, 4), np.inf, np.float32), "TIFF"), CONFIG).rgb
    assert black.shape == (4, 4, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_opencv_applies_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(), "JPEG", exif=exif)
    applied, ignored = decode_image(data, CONFIG), decode_image(data, DecodeConfig(exif="ignore"))
    assert applied.orientation == ignored.orientation == orientation
    assert np.array_equal(applied.rgb, cv2_rgb(data))
    assert np.array_equal(ignored.rgb, cv2_rgb(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION))


def test_the_first_frame_counts() -> None:
    frames = [Image.fromarray(scene()), Image.new("RGB", (53, 37), "red")]
    for format in ("GIF", "WEBP", "TIFF"):
        data = encode(
            frames[0],
            format,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if format == "WEBP" else {}),
        )
        first = decode_image(data, CONFIG).rgb
        assert np.abs(first.astype(int) - scene()).mean() < 12  # red would be far off


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_and_damaged_files_are_errors_or_images_and_nothing_else(format: str) -> None:
    data, generator = encode(scene(), format), random.Random(format)
    end = len(data) - {"PNG": 24, "GIF": 2}.get(format, 1)  # what is cut must be more than padding and end marks
    for cut in [1, 2, 10, 30, *range(40, end, max(1, end // 25))]:
        status, reason = failure(data[:cut])
        assert status in ("undecodable", "unsupported") and reason, cut
        header_size(data[:cut])
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(generator.randrange(1, 8)):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        try:
            assert decode_image(bytes(broken), DecodeConfig(max_pixels=10**6)).rgb.ndim == 3
        except DecodeError as error:
            assert error.status in ("undecodable", "unsupported", "too_large")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def test_reasons_name_what_is_wrong() -> None:
    cases: list[tuple[bytes, str, str]] = [
        (b"", "empty", "0 bytes"),
        (b"<!DOCTYPE html><html>", "undecodable", "starts with '<!DOCTYPE html>': an HTML page, not an image"),
        (b"\n<html><body>404", "undecodable", "an HTML page"),
        (b"<svg xmlns='x'/>", "unsupported", "SVG"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 50, "unsupported", "avif"),
        (b"%PDF-1.4 ...", "unsupported", "a PDF"),
        (b"Not found", "undecodable", "starts with 'Not found': not an image"),
        (png_header(30000, 30000), "too_large", "30000 x 30000 = 900,000,000 pixels by the header"),
        (encode(scene(), "JPEG")[:300], "undecodable", ""),
    ]
    for data, status, reason in cases:
        found = failure(data)
        assert found[0] == status and reason in found[1], found
    assert failure(encode(scene(), "PNG"), DecodeConfig(max_pixels=1960))[0] == "too_large"
    assert decode_image(encode(scene(), "PNG"), DecodeConfig(max_pixels=1961)).rgb.shape == (37, 53, 3)
    for options, message in [({"exif": "maybe"}, "exif is 'maybe'"), ({"max_pixels": 0}, "max_pixels is 0")]:
        with pytest.raises(ValueError, match=message):
            DecodeConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: encode(scene(), "PNG"), lambda: encode(scene(20, 1), "JPEG")])
def test_a_chunk_keeps_its_rows(make: Callable[[], bytes]) -> None:
    good = make()
    rows = [
        EncodedImage(index=5, key="a", file_name="a.png", data=good, truth=b"truth", metadata='{"x": 1}'),
        EncodedImage(index=6, key="b", file_name="b.png", data=good[:40]),
        EncodedImage(index=7, key="c", file_name="c.png", status=Status.MISSING, error="it is gone"),
        EncodedImage(index=8, key="d", file_name="d.png", data=good),
    ]
    chunk = decode_chunk(encoded_chunk(3, 2, rows, ResumePoint(chunk=3, index=9, offset=77)), CONFIG)
    assert chunk.images.schema.equals(DECODED_SCHEMA) and Chunk.from_arrow(chunk.to_arrow()) == chunk
    assert (chunk.unit, chunk.number, chunk.last) == (3, 2, False)
    assert chunk.resume == ResumePoint(chunk=3, index=9, offset=77)
    found = chunk.images.to_pylist()
    assert [row["index"] for row in found] == [5, 6, 7, 8]
    assert [row["status"] for row in found] == ["ok", "undecodable", "missing", "ok"]
    assert found[2]["error"] == "it is gone" and found[1]["rgb"] is None and found[0]["truth"] == b"truth"
    expected = decode_image(good, CONFIG).rgb
    for row in (found[0], found[3]):
        pixels = np.frombuffer(row["rgb"], np.uint8).reshape(row["height"], row["width"], 3)
        assert np.array_equal(pixels, expected)
    end = decode_chunk(encoded_chunk(3, 7, last=True), CONFIG)
    assert end.last and end.number == 7 and end.images.schema.equals(DECODED_SCHEMA)
    assert Chunk.from_arrow(end.to_arrow()) == end and end.to_arrow().schema == chunk.to_arrow().schema


@pytest.mark.parametrize("side, expected", [(0, (300, 400)), (151, (300, 400)), (150, (150, 200)), (40, (75, 100))])
def test_reduced_scale_never_goes_below_the_side_asked_for(side: int, expected: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((400, 300), 60).convert("RGB").save(buffer, "JPEG")
    decoded = decode_image(buffer.getvalue(), DecodeConfig(reduced_side=side))
    assert decoded.rgb.shape[:2] == expected and decoded.size == (300, 400)


def test_reduced_scale_turns_and_leaves_other_formats_alone() -> None:
    picture, exif = Image.effect_noise((400, 300), 60).convert("RGB"), Image.Exif()
    exif[0x0112] = 6
    for kind, expected in (("JPEG", (100, 75)), ("PNG", (400, 300))):
        buffer = io.BytesIO()
        picture.save(buffer, kind, exif=exif)
        decoded = decode_image(buffer.getvalue(), DecodeConfig(reduced_side=60))
        assert decoded.rgb.shape[:2] == expected and decoded.size == (400, 300)
