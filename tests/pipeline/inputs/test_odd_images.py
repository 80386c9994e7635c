"""Pictures that browsers and viewers show, and what is said of those that nobody here can read."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from odd_pictures import (
    avif,
    foreign_tiffs,
    heavy_parts,
    jpeg,
    oriented_tiff,
    png_chunk,
    png_of,
    samples_of,
    tiff_of,
    with_chunks,
)
from pictures import encoded, picture
from PIL import Image, features

from scclip.pipeline.inputs.decoding import DecodeConfig, DecodeError, decode_image
from scclip.pipeline.inputs.headers import header_size

APPLY, IGNORE = DecodeConfig(), DecodeConfig(exif="ignore")
HEAVY, FOREIGN = heavy_parts(), foreign_tiffs()
SCENE = picture(4, (20, 30))


def turned(scene: np.ndarray, orientation: int) -> np.ndarray:
    """The scene as EXIF defines the orientation: which side the stored first row and column are."""
    row_side, column_side = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    if row_side in "lr":  # the first row is the left or the right side
        scene = scene.transpose(1, 0, 2)
        row_side, column_side = column_side, row_side
    return scene[:: -1 if row_side == "b" else 1, :: -1 if column_side == "r" else 1]


def failure(data: bytes, config: DecodeConfig = APPLY) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, config)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_left_alone_where_that_is_asked(orientation: int) -> None:
    image = decode_image(oriented_tiff(orientation, SCENE), IGNORE)
    np.testing.assert_array_equal(image.rgb, SCENE)
    assert (image.orientation, image.size) == (orientation, SCENE.shape[:2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_once_and_recorded(orientation: int) -> None:
    image = decode_image(oriented_tiff(orientation, SCENE), APPLY)
    np.testing.assert_array_equal(image.rgb, turned(SCENE, orientation))
    assert (image.orientation, image.size) == (orientation, image.rgb.shape[:2])


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("kind", ["deep", "compressed", "PNG", "WEBP"])
def test_other_files_with_an_orientation_are_turned_alike(kind: str, orientation: int) -> None:
    if kind == "deep":
        scene = np.repeat(SCENE[:, :, :1], 3, axis=2)
        data = tiff_of(scene[:, :, 0].astype(np.uint16) * 257, tags=[{274: orientation}])
    elif kind == "compressed":
        scene, buffer = SCENE, io.BytesIO()
        Image.fromarray(scene).save(buffer, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation})
        data = buffer.getvalue()
    else:
        scene, buffer, exif = SCENE, io.BytesIO(), Image.Exif()
        exif[274] = orientation
        Image.fromarray(scene).save(buffer, kind, exif=exif, lossless=True)
        data = buffer.getvalue()
    for config, expected in ((IGNORE, scene), (APPLY, turned(scene, orientation))):
        image = decode_image(data, config)
        np.testing.assert_array_equal(image.rgb, expected)
        assert (image.orientation, image.size) == (orientation, expected.shape[:2])


@pytest.mark.parametrize("part", HEAVY)
def test_parts_of_a_png_that_hold_no_pixels_cost_nothing(part: str) -> None:
    data = with_chunks(encoded(4, (20, 30)), HEAVY[part])
    image = decode_image(data, APPLY)
    np.testing.assert_array_equal(image.rgb, SCENE)
    assert image.orientation == 1


def test_such_parts_hide_neither_orientation_nor_palette_nor_transparency() -> None:
    exif = png_chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    heavy = HEAVY["zTXt above 1 MiB"]
    image = decode_image(with_chunks(encoded(4, (20, 30)), heavy, exif), APPLY)
    np.testing.assert_array_equal(image.rgb, turned(SCENE, 6))
    assert image.orientation == 6
    plain = png_of(samples_of(4), 4, palette=True, extra=png_chunk(b"tRNS", b"\0"))
    expected = np.asarray(Image.open(io.BytesIO(plain)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(with_chunks(plain, heavy), APPLY).rgb, expected)


def test_a_png_whose_pixels_are_broken_stays_broken_beside_such_parts() -> None:
    data = with_chunks(encoded(4, (20, 30)), HEAVY["iTXt above 1 MiB"])
    assert failure(data[:-300])[0] == "undecodable"
    assert failure(with_chunks(encoded(4, (20, 30))[:60], HEAVY["iCCP above 1 MiB"]))[0] == "undecodable"


@pytest.mark.parametrize("name", FOREIGN)
def test_a_valid_tiff_that_cannot_be_read_is_unsupported_and_named(name: str) -> None:
    data, pattern = FOREIGN[name]
    status, reason = failure(data)
    assert status == "unsupported" and re.search(pattern, reason, re.IGNORECASE) and "TIFF" in reason
    assert "broken" not in reason and "cut" not in reason


def test_a_broken_tiff_is_not_called_unsupported() -> None:
    data = tiff_of(SCENE)
    assert failure(data[:200])[0] == "undecodable" and failure(data[:8] + bytes(400))[0] == "undecodable"


@pytest.mark.parametrize("subfile", [1, 5])
def test_the_main_page_of_a_tiff_is_labeled_not_its_thumbnail(subfile: int) -> None:
    thumbnail = picture(9, (5, 8))
    data = tiff_of(thumbnail, SCENE, tags=[{254: subfile}, {254: 0, 274: 6}])
    image = decode_image(data, APPLY)
    np.testing.assert_array_equal(image.rgb, turned(SCENE, 6))
    assert image.size == (30, 20) and image.orientation == 6


def test_the_first_of_several_pages_is_labeled_where_none_is_a_thumbnail() -> None:
    second = picture(9, (5, 8))
    for tags in ([{254: 2}, {254: 2}], [{}, {}], [{254: 0}, {254: 1}], [{254: 1}, {254: 1}]):
        np.testing.assert_array_equal(decode_image(tiff_of(SCENE, second, tags=tags), APPLY).rgb, SCENE)


KINDS = ["plain", "progressive", "full colour", "optimized"]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}], ids=KINDS)
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_without_its_last_two_bytes_is_labeled_as_browsers_show_it(lost: int, options: dict[str, int]) -> None:
    data = jpeg(1, (61, 97), **options)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode_image(data[:-lost], APPLY).rgb, whole)


def test_a_jpeg_that_lacks_pixels_stays_refused() -> None:
    for options in ({}, {"progressive": True}):
        data = jpeg(1, (200, 300), **options)
        for length in (len(data) - 60, len(data) - 12, len(data) // 2, len(data) // 3):
            assert failure(data[:length])[0] == "undecodable"


@pytest.mark.parametrize(
    ("front", "named"),
    [
        (b"\n", "newline|line break|line feed|white space"),
        (b"\r\n", "newline|line break|line feed|white space"),
        (b"\xef\xbb\xbf", "byte order mark|BOM"),
        (b"  ", "blank|space"),
    ],
    ids=["newline", "carriage return", "byte order mark", "blanks"],
)
def test_bytes_before_the_magic_are_named(front: bytes, named: str) -> None:
    for data, kind in ((jpeg(), "JPEG"), (encoded(1), "PNG")):
        status, reason = failure(front + data)
        assert status == "undecodable" and re.search(named, reason, re.IGNORECASE) and kind in reason


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_reads_it() -> None:
    data = avif()
    image = decode_image(data, APPLY)
    np.testing.assert_array_equal(image.rgb, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert header_size(data) in (None, (96, 64))
    status, reason = failure(data[:40] + bytes(200))
    assert status in ("undecodable", "unsupported") and reason


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_that_claims_too_many_pixels_is_refused_undecoded() -> None:
    assert failure(avif(), DecodeConfig(max_pixels=1000))[0] == "too_large"


def test_heif_without_its_reader_says_what_to_install() -> None:
    status, reason = failure(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    assert status == "unsupported" and "heif" in reason.lower()


def test_a_png_of_claimed_size_is_still_refused_behind_heavy_parts() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + HEAVY["zTXt above 1 MiB"] + png_chunk(b"IDAT", zlib.compress(b""))
    assert failure(data)[0] == "too_large"


def test_the_main_page_is_found_in_every_form_of_tiff() -> None:
    buffer = io.BytesIO()
    Image.fromarray(SCENE).save(buffer, "TIFF", big_tiff=True)
    assert header_size(buffer.getvalue()) == (30, 20)
    small = picture(9, (5, 8))
    pages = tiff_of(small, small, SCENE, tags=[{254: 1}, {254: 1}, {254: 0}])
    assert header_size(pages) == (30, 20) and decode_image(pages, DecodeConfig()).size == (20, 30)
    endless = bytearray(tiff_of(small, tags=[{254: 1}]))
    endless[-4:] = endless[4:8]  # the page after the last is the first again
    assert header_size(bytes(endless)) == (8, 5)
    np.testing.assert_array_equal(decode_image(bytes(endless), APPLY).rgb, small)


def test_a_tiff_of_an_unknown_compression_is_unsupported() -> None:
    data = tiff_of(SCENE).replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 34712))
    assert failure(data)[0] == "unsupported" and "3 bands of uint8, compression 34712" in failure(data)[1]
    assert failure(data[:300])[0] == "undecodable"


def test_sizes_of_avif_and_heic_are_read_from_their_headers() -> None:
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    tile, grid = (b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", *size) for size in ((512, 512), (4032, 3024)))
    assert header_size(head + tile + grid + tile) == (4032, 3024)
    assert header_size(head) is None and header_size(head + tile[:10]) is None
    assert failure(head + grid, DecodeConfig(max_pixels=10**6))[0] == "too_large"


def test_a_jpeg_without_its_end_is_labeled_at_reduced_scale_too() -> None:
    data = jpeg(1, (200, 300))
    whole, cut = (decode_image(each, DecodeConfig(reduced_side=40)) for each in (data, data[:-2]))
    np.testing.assert_array_equal(cut.rgb, whole.rgb)
    assert cut.size == whole.size == (200, 300) and cut.rgb.shape == (50, 75, 3)


JPEG_PARTS = {
    "JFIF without a version": (0xE0, b"JFIF\0"),
    "Photoshop's cut": (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "Photoshop's of a wrong length": (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"),
    "Adobe's without a version": (0xEE, b"Adobe\0"),
    "a profile cut": (0xE2, b"ICC_PROFILE\0\1"),
    "several pictures without an index": (0xE2, b"MPF\0II*\0"),
}


@pytest.mark.parametrize("part", JPEG_PARTS)
def test_parts_of_a_jpeg_that_hold_no_pixels_cost_nothing(part: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data, (marker, content) = jpeg(1, (61, 97), exif=exif), JPEG_PARTS[part]
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    image = decode_image(data[:2] + segment + data[2:], APPLY)
    np.testing.assert_array_equal(image.rgb, decode_image(data, APPLY).rgb)
    assert image.orientation == 6
    assert failure(data[:2] + segment + data[2:-700])[0] == "undecodable"
