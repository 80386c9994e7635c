"""Files on any fsspec filesystem: listing, reading with length check, and create-once writing (sections 2 and 6).

>>> for file in list_files("s3://bucket/shards/*.tar"): stream = open_stream(file.url, size=file.size)
>>> create(join(output, "run.json"), data)   # False: somebody else was first, and nothing was touched
"""

import contextlib
import datetime
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from scclip.pipeline.storage.local import remove_temporaries, write_whole
from scclip.pipeline.storage.ranges import BLOCK, RangeFile, filesystem, read_range
from scclip.pipeline.storage.retries import (
    StorageError,
    redact,
    response_of,
    with_retries,
)

SINGLE_PUT = 5 * 2**30 - 1  # S3's limit of one PUT; smaller objects must not become multipart uploads


@dataclass(frozen=True)
class FileInfo:
    """One file as a listing shows it."""

    url: str
    size: int
    version: str
    """ETag, generation or modification time; "" where the filesystem knows none."""


def is_local(url: str) -> bool:
    """True for a plain path or file:// URL."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def join(base: str, *names: str) -> str:
    """`base` and `names` with one slash between each."""
    return "/".join([base.rstrip("/") if base.strip("/") else base, *(name.strip("/") for name in names)])


def info(url: str) -> FileInfo:
    """Size and version of one file, never from a cache; FileNotFoundError, IsADirectoryError."""
    fs, path = filesystem(url)
    details = with_retries(lambda: _fresh(fs).info(path), "find", url)
    if details["type"] == "directory":
        raise IsADirectoryError(f"{redact(url)} is a folder, not a file")
    return _file_info(url, details)


def exists(url: str) -> bool:
    """True for an existing file or folder."""
    fs, path = filesystem(url)
    return with_retries(lambda: bool(_fresh(fs).exists(path)), "find", url)


def is_folder(url: str) -> bool:
    """True for an existing folder (or a prefix that holds objects)."""
    fs, path = filesystem(url)
    return with_retries(lambda: bool(_fresh(fs).isdir(path)), "find", url)


def is_glob(url: str) -> bool:
    """True where a path holds wildcards and is not itself the name of a file."""
    return any(character in filesystem(url)[1] for character in "*?[") and not exists(url)


def list_files(url_or_glob: str, *, recursive: bool = True) -> list[FileInfo]:
    """The files of a folder, of a glob, or the one file named; sorted by URL, [] where there is none, never cached."""
    fs, path = filesystem(url_or_glob)
    pattern = is_glob(url_or_glob)

    def listing() -> dict[str, Any]:
        _fresh(fs)
        if pattern:
            return dict(fs.glob(path, detail=True))
        return dict(fs.find(path, maxdepth=None if recursive else 1, detail=True))

    found = with_retries(listing, "list", url_or_glob)
    plain = "://" not in url_or_glob
    files = [(n if plain else fs.unstrip_protocol(n), d) for n, d in found.items() if d.get("type") != "directory"]
    return sorted((_file_info(name, details) for name, details in files), key=lambda file: file.url)


def _fresh(fs: AbstractFileSystem) -> AbstractFileSystem:
    fs.invalidate_cache()
    return fs


def _file_info(url: str, details: dict[str, Any]) -> FileInfo:
    if details.get("size") is None:
        raise StorageError(f"{redact(url)}: the server does not tell its length; copy the file to a store that does")
    names = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
    version = next((details[name] for name in names if details.get(name)), "")
    if isinstance(version, datetime.datetime):
        version = version.timestamp()
    return FileInfo(url, int(details["size"]), str(version).strip('"'))


def read_bytes(url: str, offset: int = 0, length: int | None = None, expected_size: int | None = None) -> bytes:
    """`length` bytes from `offset` (default: to the end, which is `expected_size` where the plan knows it).

    Raises StorageError where the object stays shorter than that after all retries, FileNotFoundError, PermissionError.
    """
    if length is None:
        length = (info(url).size if expected_size is None else expected_size) - offset
    fs, path = filesystem(url)
    return read_range(fs, path, url, offset, offset + length)


def open_stream(url: str, offset: int = 0, *, size: int, block: int = BLOCK) -> RangeFile:
    """A binary file over bytes offset..size of an object of planned `size`; StorageError if it is shorter."""
    return RangeFile(url, size, offset, block)


def create(url: str, data: bytes) -> bool:
    """Writes a file once and whole; False, leaving everything alone, where it already exists.

    Local: temporary name in the same folder, fsync, link. Object stores: one conditional PUT; there an existing object
    with the same bytes gives True, because it may be our own: a PUT is repeated after a failure of unknown outcome
    (even inside aiohttp, unseen by us).
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: write_whole(path, data, exclusive=True), "create", url)

    def attempt() -> bool:
        try:
            _put_new(fs, path, data)
            return True
        except Exception as error:
            code, status = response_of(error)
            if isinstance(error, FileExistsError) or code == "PreconditionFailed" or status == 412:
                return bool(fs.cat_file(path) == data)
            raise

    return with_retries(attempt, "create", url)


def _put_new(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    whole = {"chunksize": SINGLE_PUT} if hasattr(fs, "config_kwargs") else {}
    fs.pipe_file(path, data, mode="create", **whole)


def replace(url: str, data: bytes) -> None:
    """Writes a file whole, in place of an older one if there is one; readers see the old or the new, never a part."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with_retries(lambda: write_whole(path, data, exclusive=False), "write", url)
    else:
        with_retries(lambda: fs.pipe_file(path, data), "write", url)


def remove(urls: Iterable[str], *, prune: bool = False) -> None:
    """Deletes files, those already gone included; with `prune` also local folders that become empty."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(_remove_one, urls := list(urls)))
    for folder in {os.path.dirname(filesystem(url)[1]) for url in urls if prune and is_local(url)}:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _remove_one(url: str) -> None:
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        with_retries(lambda: fs.rm_file(path), "remove", url)


def remove_abandoned(folder: str, older_than: float) -> None:
    """Deletes what killed writers left below a local folder: temporaries older than so many seconds."""
    fs, path = filesystem(folder)
    if isinstance(fs, LocalFileSystem):
        remove_temporaries(path, older_than)
