"""Small pictures as people really bring them, written by hand so that no library repairs them on the way.

png_of(samples, depth=4)                    # a PNG whose samples have 4 bits, chunk by chunk
tiff_of(scene, tags=[{274: 6}])             # a TIFF that asks to be turned
"""

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pictures import encoded, picture
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
GRAY, PALETTE = 0, 3  # PNG colour types


# PNG


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_rows(samples: np.ndarray, depth: int) -> bytes:
    """The rows of integer samples (H, W) at 1, 2, 4, 8 or 16 bits, each behind filter type 0."""
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    bits = (samples[:, :, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    return b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bits)


def png_of(samples: np.ndarray, depth: int, *, palette: bool = False, extra: bytes = b"", adam7: bool = False) -> bytes:
    """A PNG of one channel whose stored samples are `samples` (H, W); `extra` chunks stand before the pixels."""
    height, width = samples.shape
    colour = PALETTE if palette else GRAY
    if adam7:
        starts = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in starts]
        rows = b"".join(packed_rows(each, depth) for each in passes if each.size)
    else:
        rows = packed_rows(samples, depth)
    colours = bytes((37 * n + 90 * c) % 256 for n in range(2**depth) for c in range(3)) if palette else b""
    return (
        PNG_MAGIC
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, adam7))
        + (png_chunk(b"PLTE", colours) if palette else b"")
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def samples_of(depth: int, size: tuple[int, int] = (13, 21)) -> np.ndarray:
    """Stored samples of a truth PNG: every value of the depth (at most 0 to 15) occurs, uint8 (H, W)."""
    return (np.arange(size[0] * size[1]).reshape(size) % min(2**depth, 16)).astype(np.uint8)


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def texts(count: int, size: int) -> Iterable[bytes]:
    for number in range(count):
        yield png_chunk(b"tEXt", b"Comment %d\0" % number + b"x" * size)


def heavy_parts() -> dict[str, bytes]:
    """PNG chunks (a byte string of one or many) that hold no pixels and stop Pillow."""
    large, line = zlib.compress(b"x" * (2**20 + 1)), b"prompt: a cat\n"
    broken = bytearray(png_chunk(b"tEXt", b"Comment\0cut"))
    broken[-1] ^= 0xFF
    return {
        "zTXt above 1 MiB": png_chunk(b"zTXt", b"Comment\0\0" + large),
        "iTXt above 1 MiB": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + large),
        "iCCP above 1 MiB": png_chunk(b"iCCP", b"ICC\0\0" + large),
        "70 texts of 1 MB": b"".join(texts(70, 10**6)),
        "zTXt that is cut": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(line * 99)[:-9]),
        "tEXt with a wrong checksum": bytes(broken),
        "tRNS of one byte": png_chunk(b"tRNS", b"\0"),
        "gAMA of two bytes": png_chunk(b"gAMA", b"\0\1"),
        "pHYs of three bytes": png_chunk(b"pHYs", b"\0\1\2"),
        "iCCP of an unknown compression": png_chunk(b"iCCP", b"ICC\0\7" + large[:200]),
    }


# TIFF

_TIFF_TYPES = {np.dtype(np.uint8): (1, 8), np.dtype(np.uint16): (1, 16), np.dtype(np.uint32): (1, 32),
               np.dtype(np.int16): (2, 16), np.dtype(np.float16): (3, 16), np.dtype(np.float32): (3, 32),
               np.dtype(np.float64): (3, 64), np.dtype(np.complex64): (6, 64)}  # fmt: skip


def tiff_of(*pages: np.ndarray, tags: Sequence[Mapping[int, int]] = ()) -> bytes:
    """An uncompressed little-endian TIFF of pages (H, W) or (H, W, bands); `tags` adds short tags per page."""
    data, link = bytearray(b"II*\0\0\0\0\0"), 4
    for number, page in enumerate(pages):
        bands = page.reshape(*page.shape[:2], -1)
        kind, bits = _TIFF_TYPES[page.dtype]
        count = bands.shape[2]
        pixels = len(data)
        data += bands.tobytes() + b"\0" * (bands.nbytes % 2)
        arrays = {name: len(data) + 2 * count * place for place, name in enumerate((258, 339))}
        data += struct.pack(f"<{count}H", *[bits] * count) + struct.pack(f"<{count}H", *[kind] * count)
        spare = len(data)
        data += struct.pack(f"<{count}H", *[0] * count)
        entries = {
            256: (4, 1, bands.shape[1]),
            257: (4, 1, bands.shape[0]),
            258: (3, count, arrays[258] if count > 2 else bits * (1 + 65536 * (count == 2))),
            259: (3, 1, 1),
            262: (3, 1, 2 if count == 3 else 1),
            273: (4, 1, pixels),
            277: (3, 1, count),
            278: (4, 1, bands.shape[0]),
            279: (4, 1, bands.nbytes),
            284: (3, 1, 1),
            339: (3, count, arrays[339] if count > 2 else kind * (1 + 65536 * (count == 2))),
        }
        if count not in (1, 3):
            more = count - 1
            entries[338] = (3, more, spare if more > 2 else 0)
        entries |= {tag: (3, 1, value) for tag, value in (tags[number] if tags else {}).items()}
        struct.pack_into("<I", data, link, len(data))
        data += struct.pack("<H", len(entries))
        for tag, (type_, length, value) in sorted(entries.items()):
            data += struct.pack("<HHII", tag, type_, length, value)
        link = len(data)
        data += b"\0\0\0\0"
    return bytes(data)


def foreign_tiffs() -> dict[str, tuple[bytes, str]]:
    """Name → a valid TIFF that Pillow cannot read, and a pattern of what must be said of it."""
    scene = picture(5, (24, 36))
    eight = np.concatenate([scene, scene, scene[:, :, :2]], axis=2)
    return {
        "8 bands": (tiff_of(eight), r"\b8 (bands|samples|channels)"),
        "13 bands of 16 bits": (tiff_of(np.zeros((24, 36, 13), np.uint16) + 9), r"\b13 (bands|samples|channels)"),
        "float64": (tiff_of(scene[:, :, 0] / 255), r"float.?64|64.bit float"),
        "float32 RGB": (tiff_of((scene / 255).astype(np.float32)), r"float.?32|32.bit float"),
        "complex": (tiff_of(scene[:, :, 0].astype(np.complex64)), r"complex"),
        "uint32 RGB": (tiff_of(scene.astype(np.uint32)), r"32.bit|uint32|32 bits"),
    }


def oriented_tiff(orientation: int, scene: np.ndarray) -> bytes:
    """A TIFF that stores `scene` (H, W, 3) as it is and asks to be turned."""
    return tiff_of(scene, tags=[{274: orientation}])


# Others


def jpeg(seed: int = 1, size: tuple[int, int] = (64, 96), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, size)).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def avif(seed: int = 3) -> bytes:
    return encoded(seed, (64, 96), "AVIF")
