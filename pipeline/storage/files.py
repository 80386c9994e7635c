"""Files on any fsspec filesystem: listing, reading with a check of the length, and writing whole files.

>>> for file in list_files("s3://bucket/shards/*.tar"): stream = open_stream(file.url, size=file.size)
>>> create(join(output, "run.json"), data)   # False: the file exists and stays as it is
"""

import contextlib
import dataclasses
import datetime
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from scclip.pipeline.storage.listing import FileInfo, Listing, canonical_path, list_local, local_info, pattern_of
from scclip.pipeline.storage.local import remove_temporaries, write_whole
from scclip.pipeline.storage.ranges import BLOCK, RangeFile, filesystem, read_range
from scclip.pipeline.storage.retries import StorageError, redact, response_of, with_retries
from scclip.pipeline.storage.threads import map_threads

WILDCARD = re.compile(r"[*?[]")
SINGLE_PUT = 5 * 2**30 - 1  # S3's limit of one PUT; smaller objects must not become multipart uploads


def is_local(url: str) -> bool:
    """True for a plain path or file:// URL."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def join(base: str, *names: str) -> str:
    """`base` and `names` with one slash between each."""
    return "/".join([base.rstrip("/") if base.strip("/") else base, *(name.strip("/") for name in names)])


def canonical(url: str) -> str:
    """The one name of a file, folder or glob, however it is reached.

    Local: a path from the root, without protocol, `..`, double slashes and linked folders; a file that is itself a link
    keeps its name. Any other URL: as listings show it.
    """
    fs, path = filesystem(url)
    return canonical_path(path) if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def from_root(url: str) -> str:
    """A folder as a person names it, without slashes at its end, for processes whose current folder is another one."""
    local = "://" not in url and not url.startswith(("/", "~"))
    return (join(os.getcwd(), url) if local else url).rstrip("/") or "/"


def info(url: str) -> FileInfo:
    """Size and version of one file, never from a cache.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file, or it is a folder.
        StorageError: the storage fails, or does not tell the length.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: local_info(path), "find", url)
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


def is_http(url: str) -> bool:
    """True for a URL of a web server, where `?` begins a query."""
    return url.startswith(("http://", "https://"))


def is_glob(url: str) -> bool:
    """True for a path with wildcards, unless a file has that very name."""
    path = url.partition("?")[0] if is_http(url) else filesystem(url)[1]
    return any(character in path for character in "*?[") and not exists(url)


def list_files(url_or_glob: str) -> list[FileInfo]:
    """Lists files, never from a cache.

    Args:
        url_or_glob: a folder, which is listed with all folders below it, a glob, or one file.

    Returns:
        The files, sorted by URL; [] where there are none. Local ones with their canonical names.
    """
    return listing(url_or_glob).files


def listing(url_or_glob: str, markers: Sequence[str] = ()) -> Listing:
    """Lists as `list_files`, and tells what else there is.

    Args:
        url_or_glob: a folder, a glob, or one file.
        markers: names of files that are listed apart, also where a glob does not match them.
    """
    fs, path = filesystem(url_or_glob)
    glob = is_glob(url_or_glob)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: list_local(path, glob=glob, markers=markers), "list", url_or_glob)
    root = WILDCARD.split(path, maxsplit=1)[0].rpartition("/")[0] if glob else path.rstrip("/")
    found = with_retries(lambda: _find(_fresh(fs), path, root, glob), "list", url_or_glob)
    wanted, endings = pattern_of(path) if glob else None, tuple(f"/{name}" for name in markers)
    listed = Listing(str(fs.unstrip_protocol(root)))
    for name, details in found.items():
        chosen, marks = not wanted or wanted.match(name), bool(endings) and name.endswith(endings)
        if details.get("type") != "directory" and (chosen or marks):
            way = name[len(root) :].lstrip("/") if name.startswith(root) else name
            file = dataclasses.replace(_file_info(fs.unstrip_protocol(name), details), path=way)
            listed.files += [file] if chosen else []
            listed.markers += [file] if marks else []
    return listed.sort()


def _find(fs: AbstractFileSystem, path: str, root: str, glob: bool) -> dict[str, dict[str, Any]]:
    """The files below `root`, for a glob as deep as it goes: the same requests as fsspec's own `glob` makes."""
    if not glob:
        return dict(fs.find(path, detail=True))
    if "http" in fs.protocol:
        return dict(fs.glob(path, detail=True))
    depth = None if "**" in path else path[len(root) :].strip("/").count("/") + 1
    return dict(fs.find(root, maxdepth=depth, detail=True))


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
    """Reads bytes of a file, all of them or none.

    Args:
        url: the file.
        offset: first byte.
        length: number of bytes; None: to the end.
        expected_size: size of the whole file, where it is known; saves a request where `length` is None.

    Raises:
        StorageError: the file is shorter than that, after all retries.
        FileNotFoundError, PermissionError: the file is gone or may not be read.
    """
    if length is None:
        length = (info(url).size if expected_size is None else expected_size) - offset
    fs, path = filesystem(url)
    return read_range(fs, path, url, offset, offset + length)


def read_start(url: str, length: int) -> bytes:
    """The first `length` bytes of a file, or all of a shorter one; raises as `read_bytes`."""
    return read_bytes(url, length=min(length, info(url).size))


def open_stream(url: str, offset: int = 0, *, size: int, block: int = BLOCK) -> RangeFile:
    """Opens a file of known size for reading from `offset` on.

    Args:
        url: the file.
        offset: where the reading begins; seeking back is allowed.
        size: bytes of the whole file; reading raises StorageError where it is shorter.
        block: bytes of one request.
    """
    return RangeFile(url, size, offset, block)


def create(url: str, data: bytes) -> bool:
    """Writes a new file, which becomes visible when it is whole.

    Local: temporary name in the same folder, fsync, link. Object stores: one conditional PUT; there an existing object
    with the same bytes counts as written, because it may be our own: a PUT is repeated after a failure of unknown
    outcome (even inside aiohttp, unseen by us).

    Returns:
        True where it was written; False where the file exists, which then stays as it is.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: write_whole(path, [data], exclusive=True), "create", url)

    whole = {"chunksize": SINGLE_PUT} if hasattr(fs, "config_kwargs") else {}

    def put() -> bool:
        try:
            fs.pipe_file(path, data, mode="create", **whole)
            return True
        except Exception as error:
            code, status = response_of(error)
            if isinstance(error, FileExistsError) or code == "PreconditionFailed" or status == 412:
                return bool(fs.cat_file(path) == data)
            raise

    return with_retries(put, "create", url)


def replace(url: str, data: bytes) -> None:
    """Writes a file whole, in place of an older one; readers see the old file or the new one, never a part."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with_retries(lambda: write_whole(path, [data], exclusive=False), "write", url)
    else:
        with_retries(lambda: fs.pipe_file(path, data), "write", url)


def remove(urls: Iterable[str], *, prune: bool = False) -> None:
    """Deletes files; files that do not exist are no error. With `prune` also local folders that become empty."""

    def remove_one(url: str) -> None:
        fs, path = filesystem(url)
        with contextlib.suppress(FileNotFoundError):
            with_retries(lambda: fs.rm_file(path), "remove", url)

    list(map_threads(remove_one, urls := list(urls), threads=8))
    for folder in {os.path.dirname(filesystem(url)[1]) for url in urls if prune and is_local(url)}:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def remove_abandoned(folder: str, older_than: float) -> None:
    """Deletes temporary files that killed processes left below a local folder, older than `older_than` seconds."""
    fs, path = filesystem(folder)
    if isinstance(fs, LocalFileSystem):
        remove_temporaries(path, older_than)
