"""What the pages of a Parquet column unpack to, read from their headers before Arrow unpacks them.

    size = chunk_size(file, chunk)      # of one column in one row group
    size.dictionary, size.page          # bytes: 33,554,440 and 512, in a file of 1.5 KB

The footer says it as well, but whoever wrote the file may lie there; Arrow unpacks what the pages say.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow.parquet as pq

from scclip.pipeline.storage.ranges import RangeFile

WALKED = 2**22  # bytes of a column whose pages are all looked at; of a larger one only the first, a dictionary if any
SMALL = 2**19  # bytes that may stand in every row of a batch without making it shorter
HEADER = 2**16  # bytes that hold the header of a page, with the statistics in it
LARGEST_PAGE, MOST_PACKED = 2**28, 100  # bytes, and bytes for each that is stored, of a page that is no bomb
EXPANSION = {"UNCOMPRESSED": 1, "SNAPPY": 22}  # codec → bytes that one byte unpacks to at most
DICTIONARY, DEPTH = 2, 4  # the number of that kind of page; structs inside structs
Fields: TypeAlias = dict[int, Any]  # Thrift's numbers of fields → values


@dataclass(frozen=True)
class ChunkSize:
    """Sizes of one column in one row group."""

    dictionary: int = 0
    """Bytes of its dictionary, and so at most of one of its values."""
    page: int = 0
    """Bytes of the largest page that was looked at."""
    total: int = 0
    """Bytes of all pages that were looked at."""
    values: int = 0
    """Values in all pages that were looked at, and at least as many as the footer says."""
    bomb: bool = False
    """Whether one of them unpacks to more than any file of pictures does."""
    whole: bool = False
    """Whether all pages were looked at."""


def small_chunk(chunk: pq.ColumnChunkMetaData) -> ChunkSize | None:
    """The size of a column without lists of which the most that its codec can pack is little; None for others."""
    most = chunk.total_compressed_size * EXPANSION.get(chunk.compression, LARGEST_PAGE)
    return ChunkSize(dictionary=most, page=most, total=most, whole=True) if most <= SMALL else None


def chunk_size(file: RangeFile, chunk: pq.ColumnChunkMetaData) -> ChunkSize:
    """Reads the headers of a column's pages. ValueError where there are none that can be read."""
    start, length = chunk.data_page_offset, chunk.total_compressed_size
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    whole = length <= WALKED
    file.seek(start)
    data, position = file.read(length if whole else HEADER), 0
    dictionary = page = total = values = 0
    bomb = False
    while position < len(data) and (whole or position == 0):
        header, body = read_struct(data, position)
        size, packed = header.get(2, 0), header.get(3, 0)
        if size < 0 or packed < 0:
            raise ValueError(f"a page of {size} bytes, {packed} packed")
        if header.get(1) == DICTIONARY:
            dictionary = max(dictionary, size)
        else:
            counts = header.get(5) or header.get(8) or {}  # the headers of both kinds of data pages
            values += max(0, counts.get(1, 0))
        bomb = bomb or (size > LARGEST_PAGE and size > MOST_PACKED * packed)
        page, total, position = max(page, size), total + size, body + packed
    return ChunkSize(dictionary, page, total, max(values, chunk.num_values), bomb, whole)


def read_struct(data: bytes, position: int, depth: int = 0) -> tuple[Fields, int]:
    """Reads a struct in Thrift's compact form, without lists and maps; returns its fields and where it ends."""
    fields, field = Fields(), 0
    if depth > DEPTH:
        raise ValueError("a header of a page nests too deep")
    try:
        while head := data[position]:
            field, position, kind = field + (head >> 4), position + 1, head & 15
            if not head >> 4:
                field, position = _number(data, position)
            if kind in (1, 2):  # the truth value itself
                fields[field] = kind == 1
            elif kind == 3:
                fields[field], position = data[position], position + 1
            elif kind in (4, 5, 6):
                fields[field], position = _number(data, position)
            elif kind == 7:
                position += 8
            elif kind == 8:
                length, position = _varint(data, position)
                position += length
            elif kind == 12:
                fields[field], position = read_struct(data, position, depth + 1)
            else:
                raise ValueError(f"a header of a page holds a field of kind {kind}")
    except IndexError:
        raise ValueError("a header of a page is cut") from None
    return fields, position + 1


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return value, position


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A signed number, which the compact form folds: 0, -1, 1, -2, …"""
    value, position = _varint(data, position)
    return value >> 1 ^ -(value & 1), position
