"""Bad and odd inputs by the dozen, each with what must become of it.

write_corpus(folder)   # shards and files that hold CASES, good pictures before and after the bad ones
CASES                  # key → (status, what the reason must name); "ok" for odd ones that get labels
"""

import gzip
import io
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pictures import encoded, picture, tar_bytes
from PIL import Image

Expected = tuple[str, str]  # status, part of the reason
BLOCK = 512


def save(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(picture(orientation, (48, 72)), "JPEG", exif=exif)


def bad_images() -> dict[str, tuple[bytes, Expected]]:
    """Member name → bytes and what its row says."""
    scene, html = picture(1, (64, 96)), b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    jpeg, png = save(scene, "JPEG"), save(scene, "PNG")
    progressive = save(scene, "JPEG", progressive=True)
    broken_png = png[:60] + bytes(60) + png[120:]
    return {
        "jpeg-cut-in-header.jpg": (jpeg[:100], ("undecodable", "truncated")),
        "jpeg-cut-at-a-third.jpg": (jpeg[: len(jpeg) // 3], ("undecodable", "truncated")),
        "jpeg-cut-near-the-end.jpg": (jpeg[:-60], ("undecodable", "truncated")),
        "jpeg-progressive-cut.jpg": (progressive[: len(progressive) // 2], ("undecodable", "truncated")),
        "jpeg-magic-only.jpg": (b"\xff\xd8\xff", ("undecodable", "header")),
        "png-cut-in-header.png": (png[:20], ("undecodable", "truncated")),
        "png-cut-at-a-third.png": (png[: len(png) // 3], ("undecodable", "")),
        "png-cut-in-the-middle.png": (png[: len(png) // 2], ("undecodable", "")),
        "png-damaged.png": (broken_png, ("undecodable", "")),
        "webp-cut.webp": (save(scene, "WEBP")[:200], ("undecodable", "")),
        "gif-cut.gif": (save(scene, "GIF")[:400], ("undecodable", "")),
        "tiff-cut.tif": (save(scene, "TIFF")[:300], ("undecodable", "")),
        "bmp-cut.bmp": (save(scene, "BMP")[:300], ("undecodable", "truncated")),
        "zero-bytes.jpg": (b"", ("empty", "0 bytes")),
        "html.jpg": (html, ("undecodable", "an HTML page")),
        "text.png": (b"Not found", ("undecodable", "not an image")),
        "json.jpg": (b'{"error": "AccessDenied"}', ("unsupported", "JSON")),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("unsupported", "SVG")),
        "pdf.jpg": (b"%PDF-1.7 ...", ("unsupported", "a PDF")),
        "zip.jpg": (b"PK\x03\x04" + bytes(40), ("unsupported", "ZIP")),
        "avif.jpg": (b"\0\0\0\x1cftypavif" + bytes(60), ("unsupported", "avif")),
        "pickle.jpg": (pickle.dumps({"x": 1}), ("undecodable", "not an image")),
        "noise.jpg": (np.random.default_rng(0).bytes(3000), ("undecodable", "not an image")),
        "bomb-30000.png": (png_header(30000, 30000), ("too_large", "30000 x 30000 = 900,000,000 pixels")),
        "bomb-claims-2-billion.png": (png_header(2**31 - 1, 1), ("too_large", "2147483647 x 1")),
        "no-pixels.png": (png_header(64, 64), ("undecodable", "")),
    }


def odd_images() -> dict[str, bytes]:
    """Member name → bytes of images that are unusual and get labels."""
    scene = picture(2, (60, 90))
    pil, deep = Image.fromarray(scene), scene[:, :, 0].astype(np.uint16) * 257
    frames = [pil, Image.new("RGB", pil.size, "red")]
    plain = {
        "wrong-extension.jpg": save(pil, "PNG"),
        "jpeg-called-png.png": save(pil, "JPEG"),
        "cmyk.jpg": save(pil.convert("CMYK"), "JPEG"),
        "grey.jpg": save(pil.convert("L"), "JPEG"),
        "one-bit.png": save(pil.convert("1"), "PNG"),
        "palette-transparent.png": save(pil.convert("P"), "PNG", transparency=3),
        "alpha.png": save(np.dstack([scene, scene[:, :, :1]]), "PNG"),
        "sixteen-bit.png": save(deep, "PNG"),
        "sixteen-bit.v2.tif": save(deep, "TIFF"),
        "float.tif": save((scene[:, :, 1] / 255).astype(np.float32), "TIFF"),
        "animated.gif": save(pil, "GIF", save_all=True, append_images=frames[1:]),
        "animated.v2.webp": save(pil, "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "trailing-rubbish.jpg": save(pil, "JPEG") + b"rubbish" * 50,
        "one-pixel.png": save(scene[:1, :1], "PNG"),
        "one-by-30000.png": save(np.tile(scene[:1, :60], (1, 500, 1)), "PNG"),
        "ünïcode 🙂.png": save(pil, "PNG"),
        "a/../../escape.png": save(pil, "PNG"),
        "/absolute/etc.passwd.png": save(pil, "PNG"),
    }
    return plain | {f"exif-{orientation}.jpg": oriented(orientation) for orientation in range(1, 9)}


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info.tobuf(tarfile.GNU_FORMAT)


def bare(members: dict[str, bytes]) -> bytes:
    """A tar without its end blocks."""
    data = b""
    for name, body in members.items():
        data += header(name, size=len(body)) + body + bytes(-len(body) % BLOCK)
    return data


END = bytes(2 * BLOCK)


def broken_shards() -> dict[str, tuple[bytes, dict[str, Expected]]]:
    """File name → bytes and, by key, what its rows say; pictures g… are the good ones that still count."""
    good = {f"g{seed}.png": encoded(seed) for seed in (0, 3)}
    fine = {"g0": ("ok", ""), "g3": ("ok", "")}
    data, first = bare(good), len(bare({"g0.png": good["g0.png"]}))
    one = {"g0": ("ok", "")}
    packed = gzip.compress(data + END)

    def bad(name: str, reason: str, kept: dict[str, Expected]) -> dict[str, Expected]:
        return kept | {name: ("bad_shard", reason)}

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (Path("/tmp/scclip-pickle-was-executed"), "x"))

    pickled = bare({"g0.png": good["g0.png"], "g0.pyd": pickle.dumps(Evil()), "g0.pkl": pickle.dumps(Evil())})
    twice = bare({"g0.png": good["g0.png"]}) + bare(good)
    woven = bare({"g0.json": b'{"a": 1}', "g3.png": good["g3.png"], "g3.json": b"{", "g0.png": good["g0.png"]})
    huge = header("huge.jpg", size=10 * 2**30)
    return {
        "cut-at-member.tar": (data[:first], bad("cut-at-member.tar", "end blocks are missing", one)),
        "cut-in-header.tar": (data[: first + 200], bad("cut-in-header.tar", "cut inside the header", one)),
        "cut-in-body.tar": (data[: first + 900], bad("cut-in-body.tar", "claims", one)),
        "no-end.tar": (data, bad("no-end.tar", "end blocks are missing", fine)),
        "after-the-end.tar": (bare({"g0.png": good["g0.png"]}) + END + bare({"g3.png": good["g3.png"]}) + END, fine),
        "rubbish-after-the-end.tar": (data + END + b"x" * 700, bad("rubbish-after-the-end.tar", "no tar member", fine)),
        "garbage.tar": (b"garbage " * 200, bad("garbage.tar", "not a tar", {})),
        "html.tar": (b"<html>404</html>" * 100, bad("html.tar", "not a tar", {})),
        "empty-file.tar": (b"", bad("empty-file.tar", "the file is empty", {})),
        "no-members.tar": (END, {}),
        "gzip-cut.tar.gz": (packed[: len(packed) // 2], bad("gzip-cut.tar.gz", "gzip stream is cut", {})),
        "gzip-broken.tar.gz": (packed[:200] + bytes(40) + packed[240:], bad("gzip-broken.tar.gz", "broken gzip", {})),
        "gzip-called-tar.tar": (packed, fine),
        "bad-checksum.tar": (
            data[:first] + b"z" + data[first + 1 :] + END,
            bad("bad-checksum.tar", "bad checksum", one),
        ),
        "claims-10-gb.tar": (data[:first] + huge + END, bad("claims-10-gb.tar", "claims 10,737,418,240 bytes", one)),
        "duplicate-keys.tar": (twice + END, {"g0": ("ok", ""), "g0#2": ("ok", ""), "g3": ("ok", "")}),
        "interleaved.tar": (woven + END, fine),
        "pickles.tar": (pickled + END, one),
        "symlink.tar": (
            data + header("link.png", tarfile.SYMTYPE, target="/etc/passwd") + END,
            fine | {"link": ("unsupported", "is a link")},
        ),
        "device.tar": (
            data + header("zero.png", tarfile.CHRTYPE) + END,
            fine | {"zero": ("unsupported", "is a device")},
        ),
        "folder-member.tar": (header("folder.png/", tarfile.DIRTYPE) + data + END, fine),
    }


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def parquets() -> dict[str, tuple[bytes, dict[str, Expected]]]:
    """As `broken_shards`, of Parquet files."""
    good = [encoded(0), encoded(3)]
    nulls = pa.table({"id": ["g0", "null", "g3", "html"], "image": [good[0], None, good[1], b"<html>"]})
    zero = pa.table({"image": pa.array([], pa.binary())})
    fine = parquet_bytes(pa.table({"id": ["g0", "g3"], "image": good}))
    return {
        "nulls.parquet": (
            parquet_bytes(nulls),
            {"g0": ("ok", ""), "null": ("unreadable", "null"), "g3": ("ok", ""), "html": ("undecodable", "HTML")},
        ),
        "zero-rows.parquet": (parquet_bytes(zero), {}),
        "cut.parquet": (fine[: len(fine) // 2], {"cut.parquet": ("bad_shard", "not a Parquet file")}),
        "garbage.parquet": (b"PAR1 garbage", {"garbage.parquet": ("bad_shard", "not a Parquet file")}),
    }


def write_corpus(folder: Path) -> dict[str, dict[str, Expected]]:
    """Writes all shards; returns file name → key → what is expected of that row."""
    folder.mkdir(parents=True)
    members, expected = dict[str, bytes](), dict[str, dict[str, Expected]]()
    for name, (data, row) in bad_images().items():
        members[name] = data
        expected.setdefault("images.tar", {})[name.rpartition(".")[0]] = row
    for place, (name, data) in enumerate(odd_images().items()):
        members = {**members, name: data} if place % 2 else {name: data, **members}
        expected["images.tar"][name.rpartition(".")[0]] = ("ok", "")
    (folder / "images.tar").write_bytes(tar_bytes(members))
    for name, (data, rows) in (broken_shards() | parquets()).items():
        (folder / name).write_bytes(data)
        expected[name] = rows
    return expected


def good_pictures() -> dict[str, bytes]:
    """Everything that must be labeled, by member name."""
    return odd_images() | {f"g{seed}.png": encoded(seed) for seed in (0, 3)}
