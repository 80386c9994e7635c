"""What the user names (URL, glob, folder, COCO JSON, text list) as shards and image files.

>>> resolve("s3://bucket/val2017")        # [Shard(...), ...] and groups of PlannedFile
"""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scclip.errors import UserError
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, is_image, shard_kind, split_name
from scclip.pipeline.inputs.units import PlannedFile
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.files import FileInfo
from scclip.pipeline.storage.retries import redact

KINDS = "tar, tar.gz, tgz, parquet, json (COCO), txt (a list), or an image: " + ", ".join(sorted(IMAGE_EXTENSIONS))


class InputError(UserError):
    """The input is wrong; one line that names it and the remedy."""


@dataclass(frozen=True)
class Shard:
    """One shard of a plan."""

    kind: str
    """"tar" or "parquet"."""
    file: FileInfo


Source = Shard | list[PlannedFile]


def resolve(
    name: str, *, truth: str | None = None, exclude: Sequence[str] = (), root: str = "", parents: tuple[str, ...] = ()
) -> list[Source]:
    """The shards of one input, then its image files as one group; InputError where there is nothing to label.

    `root` is the folder that keys of single files are relative to, `parents` the lists that led here.
    """
    url = absolute(name)
    if storage.is_glob(url):
        folder = re.split(r"[*?\[]", url, maxsplit=1)[0].rpartition("/")[0]
        return _of_files(name, storage.list_files(url), root=folder, truth=truth, exclude=exclude)
    if storage.is_folder(url):
        return _of_files(name, storage.list_files(url), root=url, truth=truth, exclude=exclude)
    try:
        file = storage.info(url)
    except FileNotFoundError:
        raise InputError(f"input {redact(name)}: no such file or folder; check the path") from None
    if url.lower().endswith(".json"):
        return [_coco_files(url)]
    if url.lower().endswith(".txt"):
        return _listed(url, truth=truth, exclude=exclude, parents=parents)
    inside = root if root and url.startswith(root.rstrip("/") + "/") else url.rpartition("/")[0]
    if not shard_kind(url) and not is_image(url, truth):
        raise InputError(f"input {redact(name)}: unsupported kind of file; give {KINDS}")
    return _of_files(name, [file], root=inside, truth=truth)


def absolute(name: str) -> str:
    """A local path without protocol and from the root; any other URL as listings show it."""
    if not name:
        raise InputError("an input is an empty string; name a shard, a folder, a glob or a list")
    fs, path = storage.filesystem(name)
    return path if storage.is_local(name) else str(fs.unstrip_protocol(path))


def _of_files(
    name: str, files: list[FileInfo], *, root: str, truth: str | None, exclude: Sequence[str] = ()
) -> list[Source]:
    root = absolute(root or "/").rstrip("/") + "/"
    left_out = tuple(absolute(folder).rstrip("/") + "/" for folder in exclude)
    files = [file for file in files if not file.url.startswith(left_out) and not _hidden(file.url, root)]
    shards: list[Source] = [Shard(kind, file) for file in files if (kind := shard_kind(file.url))]
    images = [_planned(file, root) for file in files if is_image(file.url, truth)]
    if not shards and not images:
        found = f"{len(files)} files, such as {files[0].url.rpartition('/')[2]}" if files else "nothing"
        raise InputError(f"input {redact(name)}: holds {found}, and nothing to label; expected {KINDS}")
    return [*shards, images] if images else shards


def _hidden(url: str, root: str) -> bool:
    inside = url[len(root) :] if url.startswith(root) else url.rpartition("/")[2]
    return any(part.startswith(".") for part in inside.split("/"))


def _planned(file: FileInfo, root: str) -> PlannedFile:
    inside = file.url[len(root) :] if file.url.startswith(root) else file.url.rpartition("/")[2]
    return PlannedFile(file.url, file.size, file.version, split_name(inside)[0], inside)


def _listed(url: str, *, truth: str | None, exclude: Sequence[str], parents: tuple[str, ...]) -> list[Source]:
    if url in parents:
        raise InputError(f"list {redact(url)} names itself; remove that line")
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"list {redact(url)}: not a text file in UTF-8") from None
    folder = url.rpartition("/")[0]
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"list {redact(url)}: empty; write one path or URL a line")
    names = [line if "://" in line or line.startswith(("/", "~")) else storage.join(folder, line) for line in lines]

    def one(name: str) -> list[Source]:
        return resolve(name, truth=truth, exclude=exclude, root=folder, parents=(*parents, url))

    with ThreadPoolExecutor(16) as threads:
        sources = [source for found in threads.map(one, names) for source in found]
    images: dict[str, PlannedFile] = {}
    for file in (file for source in sources if isinstance(source, list) for file in source):
        images.setdefault(file.url, file)
    shards: list[Source] = [source for source in sources if isinstance(source, Shard)]
    return [*shards, list(images.values())] if images else shards


def _coco_files(url: str) -> list[PlannedFile]:
    try:
        document = json.loads(storage.read_bytes(url))
        entries = [(str(image["file_name"]), str(int(image["id"]))) for image in document["images"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"input {redact(url)}: not a COCO file; expected images with id and file_name") from None
    if not entries:
        raise InputError(f"input {redact(url)}: its list of images is empty")
    for name, _ in entries:
        if name.startswith("/") or "://" in name or ".." in name.split("/"):
            raise InputError(f"input {redact(url)}: file_name {name!r} leaves the image folder; make it relative")
    folder = _coco_folder(url, [name for name, _ in entries])
    files = {file.url: file for file in storage.list_files(folder)}
    prefix = absolute(folder).rstrip("/") + "/"
    missing = FileInfo("", -1, "")
    found = [(prefix + name, files.get(prefix + name, missing), key, name) for name, key in entries]
    return [PlannedFile(path, file.size, file.version, key, name) for path, file, key, name in found]


def _coco_folder(url: str, names: Sequence[str]) -> str:
    """The folder of the images, as COCO lays them out: beside the JSON, or beside its folder and named as the split."""
    here, _, base = url.rpartition("/")
    above = here.rpartition("/")[0]
    stem = base[: -len(".json")]
    splits = list(dict.fromkeys([stem.rpartition("_")[2], stem]))
    folders = [here, f"{here}/images", *(f"{here}/{split}" for split in splits), above, f"{above}/images"]
    folders += [f"{above}/{place}{split}" for place in ("", "images/") for split in splits]
    for folder in folders:
        if any(storage.exists(f"{folder}/{name}") for name in names[:3]):
            return folder
    raise InputError(f"input {redact(url)}: {names[0]} is neither beside it nor in {folders[1]} or {folders[-2]}")
