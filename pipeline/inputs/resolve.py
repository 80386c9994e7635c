"""Finds the shards and image files that an input names: a URL, glob, folder, COCO JSON file, or text list.

>>> resolve("s3://bucket/val2017")        # [Unit(number=0, kind="tar", …), …, Unit(number=0, kind="files", …)]
"""

import json
import re
from collections.abc import Sequence

from scclip.errors import UserError
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, is_image, split_name
from scclip.pipeline.inputs.readers.registry import READERS, shard_kind
from scclip.pipeline.inputs.units import IMAGE_FILES, PlannedFile, Unit
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage.files import FileInfo
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.threads import map_threads


class InputError(UserError):
    """The input is wrong; one line that names it and the remedy."""


def resolve(
    name: str, *, truth: str | None = None, exclude: Sequence[str] = (), root: str = "", parents: tuple[str, ...] = ()
) -> list[Unit]:
    """Finds what one input names.

    Args:
        name: URL, path or glob of shards, images, a folder of these, a COCO JSON file, or a text list.
        truth: extension of ground-truth files, which are then not images.
        exclude: folders to leave out.
        root: folder that the keys of single files are relative to; "" for the file's own.
        parents: the text lists that name this input, the outermost first.

    Returns:
        Drafts of units, without number: one for each shard, then one for all image files where there are any.

    Raises:
        InputError: the input does not exist, holds nothing to label, or is of an unknown kind.
    """
    url = absolute(name)
    glob = storage.is_glob(url)
    if glob or storage.is_folder(url):
        folder = re.split(r"[*?\[]", url, maxsplit=1)[0].rpartition("/")[0] if glob else url
        return _drafts(name, storage.list_files(url), root=folder, truth=truth, exclude=exclude)
    try:
        file = storage.info(url)
    except FileNotFoundError:
        raise InputError(f"input {redact(name)}: no such file or folder; check the path") from None
    if url.lower().endswith(".json"):
        return _image_files(_coco_files(url))
    if url.lower().endswith(".txt"):
        return _listed(url, truth=truth, exclude=exclude, parents=parents)
    if not shard_kind(url) and not is_image(url, truth):
        raise InputError(f"input {redact(name)}: unsupported kind of file; give {_supported()}")
    inside = root if root and url.startswith(root.rstrip("/") + "/") else url.rpartition("/")[0]
    return _drafts(name, [file], root=inside, truth=truth)


def _supported() -> str:
    endings = [ending[1:] for reader in READERS.values() for ending in reader.endings]
    return f"{', '.join(endings)}, json (COCO), txt (a list), or an image: {', '.join(sorted(IMAGE_EXTENSIONS))}"


def absolute(name: str) -> str:
    """A local path without protocol and from the root; any other URL as listings show it."""
    if not name:
        raise InputError("an input is an empty string; name a shard, a folder, a glob or a list")
    fs, path = storage.filesystem(name)
    return path if storage.is_local(name) else str(fs.unstrip_protocol(path))


def _drafts(name: str, files: list[FileInfo], root: str, truth: str | None, exclude: Sequence[str] = ()) -> list[Unit]:
    """The shards and images among files; hidden files and those in excluded folders are left out."""
    root = absolute(root or "/").rstrip("/") + "/"
    excluded = tuple(absolute(folder).rstrip("/") + "/" for folder in exclude)
    shards, images, names = list[Unit](), list[PlannedFile](), list[str]()
    for file in files:
        base = file.url.rpartition("/")[2]
        path = file.url[len(root) :] if file.url.startswith(root) else base
        if file.url.startswith(excluded) or path.startswith(".") or "/." in path:
            continue
        names.append(base)
        if kind := shard_kind(file.url):
            shards.append(Unit(kind=kind, url=file.url, size=file.size, version=file.version))
        elif is_image(file.url, truth):
            images.append(PlannedFile(file.url, file.size, file.version, split_name(path)[0], path))
    if not shards and not images:
        content = f"{len(names)} files, such as {names[0]}" if names else "nothing"
        raise InputError(f"input {redact(name)}: holds {content}, and nothing to label; expected {_supported()}")
    return shards + _image_files(images)


def _image_files(files: Sequence[PlannedFile]) -> list[Unit]:
    """One draft of all these files; none where there are none."""
    return [Unit(kind=IMAGE_FILES, url="", size=0, version="", files=tuple(files))] if files else []


def _listed(url: str, *, truth: str | None, exclude: Sequence[str], parents: tuple[str, ...]) -> list[Unit]:
    """What the lines of a text list name; each image file once, under its first name."""
    if url in parents:
        raise InputError(f"list {redact(url)} names itself; remove that line")
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"list {redact(url)}: not a text file in UTF-8; save it as UTF-8") from None
    folder = url.rpartition("/")[0]
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"list {redact(url)}: empty; write one path or URL a line")
    names = [line if "://" in line or line.startswith(("/", "~")) else storage.join(folder, line) for line in lines]

    def resolve_line(name: str) -> list[Unit]:
        return resolve(name, truth=truth, exclude=exclude, root=folder, parents=(*parents, url))

    drafts = [draft for group in map_threads(resolve_line, names) for draft in group]
    images: dict[str, PlannedFile] = {}
    for file in (file for draft in drafts for file in draft.files):
        images.setdefault(file.url, file)
    return [draft for draft in drafts if not draft.files] + _image_files(list(images.values()))


def _coco_files(url: str) -> list[PlannedFile]:
    """The images of a COCO file; their ids become the keys."""
    try:
        document = json.loads(storage.read_bytes(url))
        keys = [(str(image["file_name"]), str(int(image["id"]))) for image in document["images"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"input {redact(url)}: not a COCO file; expected images with id and file_name") from None
    if not keys:
        raise InputError(f"input {redact(url)}: its list of images is empty; give a COCO file that names images")
    for name, _ in keys:
        if name.startswith("/") or "://" in name or ".." in name.split("/"):
            raise InputError(f"input {redact(url)}: file_name {name!r} leaves the image folder; make it relative")
    folder = absolute(_coco_folder(url, [name for name, _ in keys])).rstrip("/") + "/"
    listed = {file.url: file for file in storage.list_files(folder)}
    images = [(listed.get(folder + name, FileInfo(folder + name, -1, "")), name, key) for name, key in keys]
    return [PlannedFile(file.url, file.size, file.version, key, name) for file, name, key in images]


def _coco_folder(url: str, names: Sequence[str]) -> str:
    """The folder of the images, as COCO lays them out: beside the JSON, or beside its folder and named as the split."""
    here, _, base = url.rpartition("/")
    above = here.rpartition("/")[0]
    stem = base[: -len(".json")]
    splits = list(dict.fromkeys([stem.rpartition("_")[2], stem]))
    folders = [here, f"{here}/images", *(f"{here}/{split}" for split in splits), above, f"{above}/images"]
    folders += [f"{above}/{parent}{split}" for parent in ("", "images/") for split in splits]
    for folder in folders:
        if any(storage.exists(f"{folder}/{name}") for name in names[:3]):
            return folder
    looked = f"{folders[1]} or {folders[-2]}"
    raise InputError(f"input {redact(url)}: {names[0]} is neither beside it nor in {looked}; move the images there")
