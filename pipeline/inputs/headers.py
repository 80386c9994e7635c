"""Width and height from the first bytes of an image, without a decoder; chunks close by them.

Written out instead of asking Pillow: 3 µs instead of 60, and chunk boundaries never depend on a library's version.

>>> header_size(open("photo.jpg", "rb").read())
(640, 480)
"""

import struct


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) before EXIF orientation of a JPEG, PNG, GIF, BMP, WebP or TIFF; None where it cannot be read."""
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
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
    except (struct.error, IndexError):
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


def _tiff(data: bytes) -> tuple[int, int] | None:
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(order + "I", data, 4)[0]
    sizes = dict[int, int]()
    for entry in range(struct.unpack_from(order + "H", data, start)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, start + 2 + 12 * entry)
        if tag in (256, 257) and kind in (3, 4):
            sizes[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, start + 10 + 12 * entry)[0]
    return (sizes[256], sizes[257]) if len(sizes) == 2 else None
