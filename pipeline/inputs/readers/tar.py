"""Reads tars as streams: members in order with their byte offsets, nothing extracted, nothing executed.

Unlike `tarfile` it says where a broken tar breaks, and never takes a short file for a complete one: a tar ends with
blocks of zeros. Members after these end blocks (`cat a.tar b.tar`) are read as well. Links, devices and folders have
no body; sparse members are reported, but their pieces are not joined.

>>> for member in members(stream): data = stream.read(member.size)

`tar_bytes` writes a tar; `add_file` appends to one.
"""

import contextlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

BLOCK = tarfile.BLOCKSIZE
_UNSAFE = re.compile(r"(?:^|(?<=/))(?:\.\.)?(?=/|$)")  # parts of a name that lead to the root, or out of a folder
MAX_HEADER = 2**20  # bytes of one long name or PAX header
_WITHOUT_BODY = {tarfile.LNKTYPE: "link", tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "folder"}
_WITHOUT_BODY |= dict.fromkeys((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE), "device")
_PREFIXES = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X"}


class TarError(Exception):
    """The tar is broken; reading from byte `offset` on gives the same error."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Stream(Protocol):
    """What the reader needs: bytes in order, and moving forward."""

    def read(self, length: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True)
class Member:
    """One member; its body is the next `size` bytes of the stream."""

    name: str
    size: int
    kind: str
    """"file", "link", "device", "folder" or "sparse"."""
    offset: int
    """Where its first header begins."""


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A plain tar of (name, data) pairs in their order; equal files give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            add_file(tar, name, data)
    return buffer.getvalue()


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Appends a file without owner and date, under a name that stays in the folder that the tar is unpacked in."""
    member = tarfile.TarInfo(name_inside(name))
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def name_inside(name: str) -> str:
    """A name below the folder that a tar is unpacked in: `_` for its parts `..` and for empty ones."""
    return _UNSAFE.sub("_", name)


def members(stream: Stream, size: int | None = None) -> Iterator[Member]:
    """Reads the headers of a tar, one after the other.

    Args:
        stream: the tar, at the start of a member. After each member it stands at the body, which the caller may read
            in full, in part or not at all.
        size: bytes of the whole tar, where they are known.

    Raises:
        TarError: the tar is broken or cut.
    """
    position = start = stream.tell()
    ended, overrides = False, dict[str, str]()
    while True:
        if stream.seek(position) < position:
            raise TarError(f"cut before byte {position:,}, inside the last member", start)
        block = stream.read(BLOCK)
        if not block.strip(b"\0"):
            if len(block) < BLOCK:
                return _check_end(ended or bool(block), overrides, start, position)
            start, ended, position = start if ended else position, True, position + BLOCK
            continue
        header = _header(block, start, position, ended)
        body = 0 if header.type in _WITHOUT_BODY else int(overrides.get("size", header.size))
        data = position + BLOCK + _sparse_headers(stream, header, block)
        name = overrides.get("GNU.sparse.name") or overrides.get("path") or header.name
        if size is not None and data + body > size:
            left = max(size - data, 0)
            raise TarError(f"{name} at byte {position:,} claims {body:,} bytes, {left:,} are left", start)
        position, ended = data + -(-body // BLOCK) * BLOCK, False
        if header.type in _PREFIXES:
            overrides |= _prefix(stream, header.type, body, start)
            continue
        yield Member(name, body, _kind(header, overrides), start)
        start, overrides = position, {}


def _check_end(ended: bool, overrides: dict[str, str], start: int, position: int) -> None:
    if position == 0:
        raise TarError("not a tar: the file is empty", 0)
    if overrides or not ended:
        raise TarError(f"cut at byte {position:,}: the tar's end blocks are missing", start)


class _Header(NamedTuple):
    name: str
    size: int
    type: bytes


def _header(block: bytes, start: int, position: int, ended: bool) -> _Header:
    try:
        return _parsed(block)
    except ValueError as error:
        if position == 0:
            raise TarError(f"not a tar: starts with {block[:16]!r}", start) from None
        if ended:
            raise TarError(f"what follows the end blocks at byte {position:,} is no tar member", start) from None
        reason = "cut inside the header" if len(block) < BLOCK else f"broken header ({error})"
        raise TarError(f"{reason} at byte {position:,}: what follows was not read", start) from None


def _parsed(block: bytes) -> _Header:
    """Name, size and type of a header block; `TarInfo.frombuf` takes five times as long."""
    if len(block) < BLOCK:
        raise ValueError("short")
    if _number(block[148:156]) not in _checksums(block):
        raise ValueError("bad checksum")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    kind = tarfile.DIRTYPE if block[156:157] == tarfile.AREGTYPE and name.endswith(b"/") else block[156:157]
    return _Header(name.decode("utf-8", "backslashreplace"), _number(block[124:136]), kind)


def header_names(data: bytes) -> Iterator[str]:
    """The names in those 512-byte blocks of `data` that look like headers; "" for a header without name of its own."""
    for start in range(0, len(data) - BLOCK + 1, BLOCK):
        block = data[start : start + BLOCK]
        if block[156:157] in b"01234567LKxgS" and block[148:149].strip(b"\0 01234567") == b"" and block[0]:
            with contextlib.suppress(ValueError):
                header = _parsed(block)
                yield "" if header.type in _PREFIXES else header.name


def _checksums(block: bytes) -> Iterator[int]:
    """The sum of the header's bytes, with spaces for its checksum; then the sum of old tars, with signed bytes."""
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    yield unsigned
    yield unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _number(field: bytes) -> int:
    """An octal number, or a binary one behind 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] & 0x80:
        raise ValueError("negative number")
    digits = field.partition(b"\0")[0].strip() or b"0"
    if not digits.isdigit():
        raise ValueError("bad number")
    return int(digits, 8)


def _sparse_headers(stream: Stream, header: _Header, block: bytes) -> int:
    """Bytes of the extension headers of an old GNU sparse member."""
    length, more = 0, header.type == tarfile.GNUTYPE_SPARSE and block[482]
    while more:
        block = stream.read(BLOCK)
        length, more = length + BLOCK, len(block) == BLOCK and block[504]
    return length


def _prefix(stream: Stream, kind: bytes, length: int, start: int) -> dict[str, str]:
    """The entries of a long-name or PAX header about the next member; those of a global header are not needed."""
    if length > MAX_HEADER:
        raise TarError(f"a name or PAX header at byte {start:,} claims {length:,} bytes", start)
    data = stream.read(length)
    if len(data) < length:
        raise TarError(f"cut inside the header at byte {start:,}: the tar's end blocks are missing", start)
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "backslashreplace")}
    return _pax(data, start) if kind == tarfile.XHDTYPE else {}


def _pax(data: bytes, start: int) -> dict[str, str]:
    records, position = dict[str, str](), 0
    try:
        while position < len(data) and data[position]:
            space = data.index(b" ", position)
            stop = position + int(data[position:space])
            name, _, value = data[space + 1 : stop - 1].partition(b"=")
            if stop <= space or data[stop - 1 : stop] != b"\n":
                raise ValueError
            records[name.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
            position = stop
        if not records.get("size", "0").isascii() or int(records.get("size", "0")) < 0:
            raise ValueError
    except ValueError:
        raise TarError(f"broken PAX header at byte {start:,}: what follows was not read", start) from None
    return records


def _kind(header: _Header, overrides: dict[str, str]) -> str:
    if header.type == tarfile.GNUTYPE_SPARSE or any(name.startswith("GNU.sparse.") for name in overrides):
        return "sparse"
    return _WITHOUT_BODY.get(header.type, "file")


class GzipStream:
    """The decompressed bytes of a gzip file (also of several in a row), forward only; TarError where it breaks.

    Memory stays at a few pieces whatever the compression ratio. gzip.GzipFile returns broken bytes before it compares
    their checksum; here those of the last piece are not returned.
    """

    PIECE = 2**20

    def __init__(self, raw: BinaryIO | io.RawIOBase) -> None:
        self._raw, self._inflate = raw, zlib.decompressobj(31)
        self._pending, self._buffer, self._begin, self._position, self._finished = b"", b"", 0, 0, False

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int) -> int:
        while self._position < offset and self.read(min(offset - self._position, self.PIECE)):
            pass
        return self._position

    def read(self, length: int) -> bytes:
        pieces, missing = [], length
        while missing and (self._begin < len(self._buffer) or self._fill()):
            piece = self._buffer[self._begin : self._begin + missing]
            self._begin, missing = self._begin + len(piece), missing - len(piece)
            pieces.append(piece)
        self._position += length - missing
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fill(self) -> bool:
        self._buffer, self._begin = b"", 0
        while not self._buffer and not self._finished:
            data = self._pending or self._raw.read(self.PIECE) or b""
            if self._inflate.eof:
                self._finished, self._pending = not data, data.lstrip(b"\0")
                if self._pending:  # the next of several parts
                    self._inflate = zlib.decompressobj(31)
            else:
                self._decompress(data)
        return bool(self._buffer)

    def _decompress(self, data: bytes) -> None:
        try:
            self._buffer = self._inflate.decompress(data, self.PIECE)
        except zlib.error as error:
            raise TarError(f"broken gzip ({error}) after {self._position:,} bytes", self._position) from None
        if not data and not self._buffer and not self._inflate.eof:
            raise TarError(f"the gzip stream is cut after {self._position:,} bytes", self._position)
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
