"""Lists local files: links are followed, every real folder is entered once, and no name is mistaken for a pattern.

>>> listed = list_local("/data/photos")          # or a glob: "/data/set [1]/**/*.png"
>>> [file.path for file in listed.files]         # ["a.png", "linked/b.png"]
"""

import dataclasses
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fsspec.utils import glob_translate

from scclip.pipeline.storage.retries import StorageError, redact

DANGLING, SPECIAL, FORBIDDEN = "links that lead nowhere", "pipes, sockets and devices", "folders that may not be read"


@dataclass(frozen=True)
class FileInfo:
    """One file as a listing shows it."""

    url: str
    size: int
    version: str
    """ETag, generation or modification time; "" where the filesystem knows none."""
    target: str = field(default="", compare=False)
    """The file that is read, where `url` is a link to it."""
    path: str = field(default="", compare=False)
    """The way from the folder that was listed (of a glob: from its part without wildcards), through linked folders."""


@dataclass
class Listing:
    """What is found below a folder, or by a glob."""

    root: str
    """The folder, or the part of a glob without wildcards."""
    files: list[FileInfo] = field(default_factory=list)
    """Sorted by URL."""
    markers: list[FileInfo] = field(default_factory=list)
    """The files with one of the names that were asked for, in all folders that were passed, sorted by URL."""
    odd: list[tuple[str, str]] = field(default_factory=list)
    """What is no file that can be read: (kind, URL)."""

    def sort(self) -> "Listing":
        """Puts the files in order, each URL once."""
        self.files = sorted({file.url: file for file in reversed(self.files)}.values(), key=lambda file: file.url)
        self.markers = sorted({file.url: file for file in self.markers}.values(), key=lambda file: file.url)
        return self


def canonical_path(path: str) -> str:
    """The one name of a local file or folder, without `..`, double slashes and linked folders.

    A file that is itself a link keeps its name: that of its target may say nothing about the kind of file.
    """
    folder, name = os.path.split(path.rstrip("/") or "/")
    if name in ("", ".", "..") or os.path.isdir(path):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), name)


def local_info(path: str) -> FileInfo:
    """Size and version of a local file, those of the target where it is a link.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe, a socket or a device.
    """
    details = os.stat(path)
    if stat.S_ISDIR(details.st_mode):
        raise IsADirectoryError(f"{redact(path)} is a folder, not a file")
    if not stat.S_ISREG(details.st_mode):
        raise StorageError(f"{redact(path)} is a pipe, a socket or a device; give a file")
    target = os.path.realpath(path) if os.path.islink(path) else ""
    return FileInfo(path, details.st_size, _version(details), target, os.path.basename(path))


def _version(details: os.stat_result) -> str:
    return str(details.st_mtime or details.st_ctime)


def list_local(path: str, *, glob: bool = False, markers: Sequence[str] = ()) -> Listing:
    """Lists a folder with all folders below it, one file, or what a glob matches.

    Args:
        path: from the root; of a glob, every component that exists as it is written is no pattern.
        glob: whether `path` has wildcards.
        markers: names of files that are listed apart, also where the glob does not match them.
    """
    if glob:
        return _Glob(path, markers).listing.sort()
    if not os.path.isdir(path):
        found = Listing(os.path.dirname(path))
        found.files = [local_info(canonical_path(path))] if os.path.isfile(path) else []
        return found
    found = Listing(os.path.realpath(path))
    for folder, shown, entries in _walk(found.root, "", found):
        found.files += _files(folder, shown, entries, found)
    endings = tuple(f"/{name}" for name in markers)
    found.markers = [file for file in found.files if file.url.endswith(endings)] if endings else []
    return found.sort()


def _walk(top: str, way: str, found: Listing) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """(folder, its way with a slash at the end, its entries) for all folders below `top`, which is a real path.

    Every real folder comes once: links to folders are entered when no real folder is left, so that the way without
    links gives a file its name, and a circle of links ends.
    """
    entered, real, linked = set[str](), [(top, way)], deque[tuple[str, str]]()
    while real or linked:
        folder, shown = real.pop() if real else linked.popleft()
        if folder in entered:
            continue
        entered.add(folder)
        entries, below = _entries(folder, found), list[tuple[str, str]]()
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append((f"{folder.rstrip('/')}/{entry.name}", f"{shown}{entry.name}/"))
            elif entry.is_symlink() and os.path.isdir(entry.path):
                linked.append((os.path.realpath(entry.path), f"{shown}{entry.name}/"))
        real += reversed(below)
        yield folder, shown, entries


def _entries(folder: str, found: Listing) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        found.odd.append((FORBIDDEN, folder))
    except (FileNotFoundError, NotADirectoryError):  # removed since its parent was read
        pass
    return []


def _files(folder: str, shown: str, entries: Sequence[os.DirEntry[str]], found: Listing) -> Iterator[FileInfo]:
    """The files among a folder's entries."""
    start = f"{folder.rstrip('/')}/"
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            continue
        url, link = start + entry.name, entry.is_symlink()
        try:
            details = entry.stat()
        except OSError as error:
            if link or isinstance(error, PermissionError):
                found.odd.append((DANGLING if link else FORBIDDEN, url))
            elif not isinstance(error, FileNotFoundError):
                raise
            continue
        if stat.S_ISREG(details.st_mode):
            target = os.path.realpath(url) if link else ""
            yield FileInfo(url, details.st_size, _version(details), target, shown + entry.name)
        elif not stat.S_ISDIR(details.st_mode):
            found.odd.append((SPECIAL, url))


class _Glob:
    """A glob that is resolved component by component; `**` stands for any number of folders."""

    def __init__(self, pattern: str, markers: Sequence[str]) -> None:
        parts, root = [part for part in pattern.split("/") if part not in ("", ".")], "/"
        while len(parts) > 1 and os.path.lexists(os.path.join(root, parts[0])):
            root = os.path.join(root, parts.pop(0))
        self.listing, self.markers = Listing(os.path.realpath(root)), markers
        self._match(self.listing.root, "", parts)

    def _match(self, folder: str, shown: str, parts: Sequence[str]) -> None:
        """Takes what matches in a folder, as files, or as folders to go on in where the pattern has more components."""
        self._mark(folder, shown)
        head, rest = parts[0], parts[1:]
        if head == "**":
            self._match_any_depth(folder, shown, rest)
            return
        if os.path.lexists(os.path.join(folder, head)):
            names = [head]
        else:
            wanted = pattern_of(head)
            entries = [entry for entry in _entries(folder, self.listing) if wanted.match(entry.name)]
            if not rest:
                self.listing.files += _files(folder, shown, entries, self.listing)
                return
            names = [entry.name for entry in entries]
        for name in names:
            path = os.path.join(folder, name)
            if not rest:
                self._add(path, shown + name)
            elif os.path.isdir(path):
                self._match(os.path.realpath(path), f"{shown}{name}/", rest)

    def _add(self, path: str, shown: str) -> None:
        try:
            self.listing.files.append(dataclasses.replace(local_info(path), path=shown))
        except IsADirectoryError:
            pass
        except OSError:
            self.listing.odd.append((DANGLING if os.path.islink(path) else SPECIAL, path))

    def _match_any_depth(self, top: str, shown: str, rest: Sequence[str]) -> None:
        wanted = pattern_of("/".join(["**", *rest]))
        for folder, way, entries in _walk(top, shown, self.listing):
            self._mark(folder, way)
            files = [entry for entry in entries if wanted.match(way[len(shown) :] + entry.name)]
            self.listing.files += _files(folder, way, files, self.listing)

    def _mark(self, folder: str, shown: str) -> None:
        for name in self.markers:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                self.listing.markers.append(dataclasses.replace(local_info(path), path=shown + name))


def pattern_of(glob: str) -> re.Pattern[str]:
    """The regular expression of a glob; `**` that is only a part of a component means the same as `*`."""
    parts = [part if part == "**" else re.sub(r"\*\*+", "*", part) for part in glob.split("/")]
    return re.compile(glob_translate("/".join(parts)))
