"""Finds the shards and image files that an input names: a URL, glob, folder, COCO JSON file, or text list.

>>> resolve("s3://bucket/val2017")        # [Unit(number=0, kind="tar", …), …, Unit(number=0, kind="files", …)]
"""

import itertools
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from scclip.errors import UserError
from scclip.pipeline.inputs import passed_over
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, MAX_NAMES, expand_braces, is_image, split_name
from scclip.pipeline.inputs.passed_over import PassedOver
from scclip.pipeline.inputs.readers.registry import READERS, shard_kind
from scclip.pipeline.inputs.units import IMAGE_FILES, PlannedFile, Unit
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.listing import FileInfo, Listing
from scclip.pipeline.storage.ranges import FilesystemMissing
from scclip.pipeline.storage.retries import StorageError, StorageUnavailable, printable, redact
from scclip.pipeline.storage.threads import map_threads

RUN, EXPORT = "run.json", "export.json"  # the files that mark the folder of a run and of an export
MARKS = {RUN: {"vocabulary", "model", "chunk_limits"}, EXPORT: {"run_sha256", "units_sha256"}}  # keys of their objects
MAX_MARKER = 2**26  # bytes of a run.json: it holds the vocabulary


class InputError(UserError):
    """The input is wrong; one line that names it and the remedy."""


class NotFound(InputError):
    """The input is one file, and it cannot be found."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What holds for all that one call looks for."""

    truth: str | None = None
    """Extension of ground-truth files, which are then not images."""
    exclude: Sequence[str] = ()
    """Folders to leave out, the run's own output."""
    root: str = ""
    """The folder of the text list that names the input; keys of single files are relative to it."""
    parents: tuple[str, ...] = ()
    """The text lists that name the input, the outermost first."""
    passed: PassedOver = field(default_factory=PassedOver)
    """Counts what is neither a shard nor an image."""


def resolve(name: str, search: Search) -> list[Unit]:
    """Finds what one input names.

    Args:
        name: URL, path or glob of shards, images, a folder of these, a COCO JSON file, or a text list; braces stand for
            several of these.
        search: what is left out, and where that is counted.

    Returns:
        Drafts of units, without number: one for each shard, then one for all image files where there are any.

    Raises:
        InputError: the input does not exist, holds nothing to label, or is of an unknown kind.
    """
    names = _alternatives(name)
    if names != [name]:
        return [draft for each in names for draft in resolve(each, search)]
    url = canonical(name)
    ending = _path(url).lower()
    if storage.is_glob(url) or (not _is_web_file(url) and storage.is_folder(url)):
        return _folder(name, storage.listing(url, tuple(MARKS)), search)
    try:
        file = storage.info(url)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"input {redact(name)}: no such file or folder; check the path") from None
    if ending.endswith(".json"):
        return _image_files(_coco_files(url))
    if ending.endswith(".txt"):
        return _listed(url, search)
    path = _way(name, url, search.root)
    if kind := shard_kind(ending):
        return [_shard(kind, replace(file, url=url))]
    if is_image(ending, search.truth) or storage.is_http(url):
        return _image_files([_planned(replace(file, url=url), path)])
    search.passed.add(passed_over.other_kind(ending, search.truth), url)
    raise InputError(f"input {redact(name)}: unsupported kind of file; give {_supported()}")


def _supported() -> str:
    endings = [ending[1:] for reader in READERS.values() for ending in reader.endings]
    return f"{', '.join(endings)}, json (COCO), txt (a list), or an image: {', '.join(sorted(IMAGE_EXTENSIONS))}"


def canonical(name: str) -> str:
    """The one name of an input, see `storage.files.canonical`."""
    if not name:
        raise InputError("an input is an empty string; name a shard, a folder, a glob or a list")
    return storage.canonical(name)


def _alternatives(name: str) -> list[str]:
    """What the braces in a name stand for, behind the part of it that is the name of a file or folder."""
    start = 0
    while (close := name.find("}", start)) >= 0:
        slash = name.find("/", close)
        end = slash if slash >= 0 else len(name)
        if not storage.exists(canonical(name[:end])):
            break
        start = end
    try:
        names = list(itertools.islice(expand_braces(name[start:]), MAX_NAMES + 1))
    except ValueError as error:
        raise InputError(f"input {redact(name)}: {error}; give a text list") from None
    if len(names) > MAX_NAMES:
        raise InputError(f"input {redact(name)}: its braces stand for more than {MAX_NAMES:,} names; give a text list")
    return [name[:start] + each for each in names]


def _path(url: str) -> str:
    """A URL without the query of a web server: what tells the kind of file."""
    return url.partition("?")[0] if storage.is_http(url) else url


def _is_web_file(url: str) -> bool:
    """True where a web server need not be asked whether a URL is a folder."""
    path = _path(url).lower()
    named = shard_kind(path) or is_image(path) or path.endswith((".json", ".txt"))
    return storage.is_http(url) and ("?" in url or bool(named))


def _way(name: str, url: str, root: str) -> str:
    """The path of a single file below `root`, as the input writes it; only its last part where it is elsewhere."""
    for way in (posixpath.normpath(storage.filesystem(name)[1]), _path(url)):
        if root and way.startswith(f"{root.rstrip('/')}/"):
            return way[len(root.rstrip("/")) + 1 :]
    return _path(url).rpartition("/")[2]


def _shard(kind: str, file: FileInfo) -> Unit:
    return Unit(kind=kind, url=file.url, size=file.size, version=file.version, target=file.target)


def _planned(file: FileInfo, path: str, key: str = "") -> PlannedFile:
    """An image file with its path below the input, which is also its key unless there is one."""
    name = printable(path)
    return PlannedFile(file.url, file.size, file.version, key or split_name(name)[0] or name, name, file.target)


def _image_files(files: Sequence[PlannedFile]) -> list[Unit]:
    """One draft of all these files; none where there are none."""
    return [Unit(kind=IMAGE_FILES, url="", size=0, version="", files=tuple(files))] if files else []


# Folders and globs


def _folder(name: str, listed: Listing, search: Search) -> list[Unit]:
    """The shards and images of a listing; everything else is counted."""
    excluded = tuple(f"{canonical(folder).rstrip('/')}/" for folder in search.exclude)
    if f"{listed.root.rstrip('/')}/".startswith(excluded):
        remedy = "choose an OUTPUT that neither is nor holds an input, e.g. a new folder in it"
        raise InputError(f"input {redact(name)} lies in OUTPUT {redact(', '.join(search.exclude))}; {remedy}")
    others, passed = _others(name, listed), PassedOver()
    other_folders = tuple(others)
    for kind, url in sorted(listed.odd):
        passed.add(kind, url)
    shards, images = list[Unit](), list[PlannedFile]()
    for file in listed.files:
        if file.url.startswith(excluded):
            continue
        if file.url.startswith(other_folders):
            passed.add(next(kind for folder, kind in others.items() if file.url.startswith(folder)), file.url)
        elif reason := passed_over.skipped(file.path):
            passed.add(reason, file.url)
        elif shard := shard_kind(file.url):
            shards.append(Unit(kind=shard, url=file.url, size=file.size, version=file.version, target=file.target))
        elif is_image(file.url, search.truth):
            images.append(_planned(file, file.path))
        elif not search.truth or not file.url.lower().endswith(f".{search.truth.lower().lstrip('.')}"):
            passed.add(passed_over.other_kind(file.path, search.truth), file.url)
    search.passed.update(passed)
    if not shards and not images:
        content = "; ".join(["holds nothing to label", *passed.lines()])
        raise InputError(f"input {redact(name)}: {content}; expected {_supported()}")
    return shards + _image_files(images)


def _others(name: str, listed: Listing) -> Mapping[str, str]:
    """Folders below an input, with a slash at the end, that hold a run or an export → what they hold."""
    found = dict[str, str]()
    for marker in listed.markers:
        base = marker.url.rpartition("/")[2]
        if _is_marker(marker, base):
            if marker.path == RUN:
                raise InputError(f"input {redact(name)} is the output of a run; name the run's own input")
            if marker.path != EXPORT:  # an export that is the input itself is what the user asks for
                found[marker.url.removesuffix(base)] = "in a run's folder" if base == RUN else "in an export's folder"
    return found


def _is_marker(file: FileInfo, base: str) -> bool:
    """True for a run.json or export.json that is one of ours."""
    if file.size > MAX_MARKER:
        return False
    try:
        document = json.loads(storage.read_bytes(file.url, expected_size=file.size))
    except (ValueError, RecursionError, FileNotFoundError, PermissionError):
        return False
    return isinstance(document, dict) and MARKS[base] <= document.keys()


# Text lists


def _listed(url: str, search: Search) -> list[Unit]:
    """What the lines of a text list name; each image file once, under its first name.

    A line that names no file becomes an image file of its own that is missing; InputError where all lines are wrong.
    """
    if url in search.parents:
        raise InputError(f"list {redact(url)} names itself; remove that line")
    data = storage.read_bytes(url).removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        raise InputError(f"list {redact(url)}: not a text file in UTF-8; save it as UTF-8")
    folder = url.rpartition("/")[0]
    lines = [line.strip() for line in os.fsdecode(data).replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"list {redact(url)}: empty; write one path or URL a line")
    names = [line if "://" in line or line.startswith(("/", "~")) else storage.join(folder, line) for line in lines]
    names = [each for name in names for each in _alternatives(name)]

    def resolve_line(name: str) -> tuple[list[Unit], InputError | None, PassedOver]:
        inner = replace(search, root=folder, parents=(*search.parents, url), passed=PassedOver())
        return *_line(name, inner), inner.passed

    drafts, errors = list[Unit](), list[InputError | None]()
    for found, error, passed in map_threads(resolve_line, names):
        drafts += found
        errors.append(error)
        search.passed.update(passed)
    if all(errors):
        raise next(filter(None, errors))
    images: dict[str, PlannedFile] = {}
    for file in (file for draft in drafts for file in draft.files):
        images.setdefault(file.url, file)
    return [draft for draft in drafts if not draft.files] + _image_files(list(images.values()))


def _line(name: str, search: Search) -> tuple[list[Unit], InputError | None]:
    """(what one line names, why it names nothing to label)."""
    try:
        return resolve(name, search), None
    except NotFound as error:
        reason, failure = "", error
    except (InputError, FilesystemMissing, FileNotFoundError) as error:  # also an archive that is gone
        if not search.passed.kinds:
            search.passed.add(passed_over.NOTHING_THERE, name)
        return [], InputError(str(error))
    except (StorageError, PermissionError) as error:  # of a whole store that is down, a later call may find all of it
        if isinstance(error, StorageUnavailable) and not storage.is_http(name):
            raise
        reason, failure = str(error), NotFound(str(error))
    url = canonical(name)
    return _image_files([_planned(FileInfo(url, -1, reason), _way(name, url, search.root))]), failure


# COCO


def _coco_files(url: str) -> list[PlannedFile]:
    """The images of a COCO file; their ids become the keys.

    An entry whose file does not exist, or whose name leaves the folder of the images, is a file that is missing.
    """
    try:
        document = json.loads(storage.read_bytes(url))
        entries = [(str(image["file_name"]), image["id"]) for image in document["images"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"input {redact(url)}: not a COCO file; expected images with id and file_name") from None
    if not entries:
        raise InputError(f"input {redact(url)}: its list of images is empty; give a COCO file that names images")
    keys = [_coco_key(url, number) for _, number in entries]
    ways = {name: list(_coco_ways(name)) for name, _ in entries}
    inside = {name: options for name, options in ways.items() if options}
    if not inside:
        raise InputError(f"input {redact(url)}: file_name {entries[0][0]!r} leaves the image folder; make it relative")
    folder = canonical(_coco_folder(url, list(inside.values()))).rstrip("/")
    listed = {file.path: file for file in storage.list_files(folder)}
    local = storage.is_local(folder)

    def find(name: str) -> FileInfo:
        if name not in inside:
            return FileInfo(
                f"{folder}/{quote(printable(name), safe='')}", -1, f"file_name {name!r} leaves the image folder"
            )
        options = ways[name]
        file = next((listed[way] for way in options if way in listed), None)
        return file or (local and _through_links(folder, options)) or FileInfo(f"{folder}/{options[0]}", -1, "")

    return [_planned(find(name), name, key) for (name, _), key in zip(entries, keys, strict=True)]


def _coco_key(url: str, number: object) -> str:
    try:
        whole = int(number)  # type: ignore[call-overload]
        if isinstance(number, float) and whole != number:
            raise ValueError
        return str(whole)
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"input {redact(url)}: the image id {number!r} is no whole number; number the images"
        ) from None


def _coco_ways(name: str) -> Iterator[str]:
    """The paths below the folder of the images that a file_name may mean; none where it leaves the folder."""
    for text in dict.fromkeys((name, name.replace("\\", "/"))):
        way = posixpath.normpath(text)
        try:
            if "\0" in os.fsdecode(os.fsencode(text)) or "://" in text or way.startswith("/"):
                return
        except UnicodeEncodeError:
            return
        if way not in (".", "..") and not way.startswith("../"):
            yield way


def _through_links(folder: str, ways: Sequence[str]) -> FileInfo | None:
    """A file that the listing has under another name, because a link leads to its folder."""
    for way in ways:
        with suppress(OSError):
            return storage.info(canonical(f"{folder}/{way}"))
    return None


def _coco_folder(url: str, ways: Sequence[Sequence[str]]) -> str:
    """The folder of the images, as COCO lays them out: beside the JSON, or beside its folder and named as the split."""
    here, _, base = url.rpartition("/")
    above = here.rpartition("/")[0]
    stem = base[: -len(".json")]
    splits = list(dict.fromkeys([stem.rpartition("_")[2], stem]))
    folders = [here, f"{here}/images", *(f"{here}/{split}" for split in splits), above, f"{above}/images"]
    folders += [f"{above}/{parent}{split}" for parent in ("", "images/") for split in splits]
    for some in (ways[:3], ways[3:40]):  # more only where it helps: each is a request
        for folder in folders:
            if any(storage.exists(f"{folder}/{way}") for options in some for way in options):
                return folder
    looked = f"{folders[1]} or {folders[-2]}"
    raise InputError(f"input {redact(url)}: {ways[0][0]} is neither beside it nor in {looked}; move the images there")
