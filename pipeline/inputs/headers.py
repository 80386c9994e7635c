"""Width and height from the first bytes of an image, without a decoder; chunks close by them.

Written out instead of asking Pillow: 3 µs instead of 60, and chunk boundaries never depend on a library's version.

>>> header_size(open("photo.jpg", "rb").read())
(640, 480)
"""

import contextlib
import struct
from collections.abc import Collection

TIFF_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # the unsigned integers
SIZE_TAGS = frozenset([254, 256, 257])  # NewSubfileType, width, height
MAX_PAGES = 64  # of a TIFF that are looked at
BROKEN = (struct.error, LookupError, OverflowError)  # what a header that is cut or damaged raises

Tags = dict[int, tuple[int, ...]]


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) before EXIF orientation, of a TIFF those of its main page; None where they cannot be read.

    Known are JPEG, PNG, GIF, BMP, WebP, TIFF and BigTIFF, AVIF and HEIC.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _pair(struct.unpack_from(">II", data, 16))
        if data[:3] == b"GIF":
            return _pair(struct.unpack_from("<HH", data, 6))
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if is_tiff(data):
            tags = tiff_page(data)[1]
            return tags[256][0], tags[257][0]
        if data[4:8] == b"ftyp":
            return _heif(data)
    except BROKEN:
        pass
    return None


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return abs(values[0]), abs(values[1])


def _jpeg(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header, not DHT, JPG or DAC
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        elif marker in (0xD9, 0xDA):
            return None
        else:
            length = 0 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else struct.unpack_from(">H", data, position + 2)[0]
            position += 2 + length
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    old = struct.unpack_from("<I", data, 14)[0] == 12  # OS/2 header: 16-bit sizes
    return _pair(struct.unpack_from("<HH" if old else "<ii", data, 18))


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _heif(data: bytes) -> tuple[int, int] | None:
    """The largest image in the properties of an AVIF or HEIC file: a grid is larger than its tiles."""
    head, sizes = data[:4096], list[tuple[int, int]]()
    offset = head.find(b"ispe")
    while offset >= 0:
        sizes.append(struct.unpack_from(">II", data, offset + 8))
        offset = head.find(b"ispe", offset + 4)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def is_tiff(data: bytes) -> bool:
    """True for the first bytes of a TIFF or BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_page(data: bytes, wanted: Collection[int] = SIZE_TAGS) -> tuple[int, Tags]:
    """The main page of a TIFF: the first that does not say it is a thumbnail (NewSubfileType), else the first.

    Args:
        data: the file.
        wanted: numbers of the tags to read; NewSubfileType (254) must be one.

    Returns:
        Number of the page from 0, and its tags: number → values. Tags that are not unsigned integers, or whose values
        lie outside of the file, are left out.

    Raises:
        BROKEN: one of these errors, where the header is broken.
    """
    pages = list[Tags]()
    order = "<" if data[:2] == b"II" else ">"
    large = 43 in data[2:4]
    start = struct.unpack_from(order + ("Q" if large else "I"), data, 8 if large else 4)[0]
    while start and len(pages) < MAX_PAGES:
        tags, start = _tiff_tags(data, start, order, large, wanted)
        if not tags.get(254, (0,))[0] & 1:
            return len(pages), tags
        pages.append(tags)
    return 0, pages[0]


def _tiff_tags(data: bytes, start: int, order: str, large: bool, wanted: Collection[int]) -> tuple[Tags, int]:
    """The wanted tags of the page at this offset, and the offset of the next page, 0 where there is none."""
    tags = Tags()
    count_of, entry_of, offset_of = ("Q", "HHQ", "Q") if large else ("H", "HHI", "I")
    head, room = struct.calcsize("=" + entry_of), struct.calcsize("=" + offset_of)
    offset = start + struct.calcsize("=" + count_of)
    for _ in range(min(struct.unpack_from(order + count_of, data, start)[0], 2**16)):
        tag, kind, count = struct.unpack_from(order + entry_of, data, offset)
        if tag in wanted and kind in TIFF_TYPES and count:
            with contextlib.suppress(*BROKEN):
                code, value = f"{order}{count}{TIFF_TYPES[kind]}", offset + head
                if struct.calcsize(code) > room:
                    value = struct.unpack_from(order + offset_of, data, value)[0]
                tags[tag] = struct.unpack_from(code, data, value)
        offset += head + room
    following = struct.unpack_from(order + offset_of, data, offset)[0] if offset + room <= len(data) else 0
    return tags, following
