"""What bytes are that no decoder takes: the status and the reason of their row.

>>> refusal(b"<!DOCTYPE html>…")
(Status.UNDECODABLE, "starts with '<!DOCTYPE html>…': an HTML page, not an image")
"""

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.headers import BROKEN, SIZE_TAGS, header_size, is_tiff, tiff_page
from scclip.pipeline.inputs.names import HEIF
from scclip.wording import counted

MAX_BODY = 2**29  # bytes of one image or label: anything bigger is not one
_IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_FOREIGN = {
    b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "gzip data",
    b"8BPS": "a Photoshop file",
    b"{": "JSON",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\x00\x00\x01\x00": "an icon file",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEIF_BRANDS = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")
_SAMPLES = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}  # TIFF's SampleFormat
_BITS, _COMPRESSION, _BANDS, _FORMAT = 258, 259, 277, 339
_PLACES = ((273, 279), (324, 325))  # offsets and lengths of strips, and of tiles


def too_large(size: int) -> tuple[Status, str] | None:
    """(status, reason) for a file, a member or a cell of so many bytes where that is more than is read."""
    return (Status.TOO_LARGE, f"{size:,} bytes; at most {MAX_BODY:,} are read") if size > MAX_BODY else None


def refusal(data: bytes) -> tuple[Status, str]:
    """(status, reason) for bytes that no decoder recognises, naming what they look like."""
    head = data[:256].lstrip(_BYTE_ORDER_MARK + b" \t\r\n")
    lower, start = head.lower(), f"starts with {head[:15].decode('latin-1')!r}"
    if lower.startswith((b"<svg", b"<?xml")):
        return Status.UNSUPPORTED, "an SVG or XML document, not an image of pixels"
    if lower.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return Status.UNDECODABLE, f"{start}: an HTML page, not an image"
    if data[4:8] == b"ftyp":
        return _refused_container(data)
    if is_tiff(data) and (described := _foreign_tiff(data)):
        return Status.UNSUPPORTED, f"{described} is not read; convert it to plain RGB or grey of 8 or 16 bits"
    if header_size(data) or is_tiff(data) or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return Status.UNDECODABLE, f"the image's header is broken or cut ({len(data):,} bytes)"
    format = next((name for magic, name in _IMAGES.items() if head.startswith(magic)), "")
    if format and not data.startswith(head):
        what = "a byte order mark" if data.startswith(_BYTE_ORDER_MARK) else "white space"
        return Status.UNDECODABLE, f"{what} stands before the first byte of a {format}; remove it"
    kind = next((name for magic, name in _FOREIGN.items() if data.startswith(magic)), "")
    return Status.UNSUPPORTED if kind else Status.UNDECODABLE, f"{start}: {kind or 'not an image'}"


def _refused_container(data: bytes) -> tuple[Status, str]:
    brand = data[8:12].decode("latin-1").strip()
    if brand in _HEIF_BRANDS:
        remedy = "" if HEIF else "install scclip-pipeline[heif], or "
        return Status.UNSUPPORTED, f"{brand} (HEIF) cannot be read; {remedy}convert it"
    return Status.UNSUPPORTED, f"{brand} (AVIF or video) cannot be read; convert it"


def _foreign_tiff(data: bytes) -> str:
    """A whole TIFF in words; "" for a broken one: its header cannot be read, or its pixels lie outside of the file."""
    tags_wanted = {*SIZE_TAGS, _BITS, _COMPRESSION, _BANDS, _FORMAT, *_PLACES[0], *_PLACES[1]}
    try:
        tags = tiff_page(data, tags_wanted)[1]
    except BROKEN:
        return ""
    offsets, lengths = next(((tags[a], tags[b]) for a, b in _PLACES if a in tags and b in tags), ((), ()))
    ends = [offset + length for offset, length in zip(offsets, lengths, strict=False)]
    if not ends or max(ends) > len(data):
        return ""
    bands, bits = tags.get(_BANDS, (1,))[0], tags.get(_BITS, (1,))[0]
    samples = f"{_SAMPLES.get(tags.get(_FORMAT, (1,))[0], 'unknown ')}{bits}"
    compression = tags.get(_COMPRESSION, (1,))[0]
    packed = f", compression {compression}," if compression != 1 else ""
    return f"a TIFF of {counted(bands, 'band')} of {samples}{packed}"
