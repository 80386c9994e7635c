"""The plan: inputs of every form become numbered units, shards or groups of image files (sections 2 and 6).

>>> units = plan_units(["s3://bucket/shards/*.tar", "photos/"])
>>> more = plan_units(["s3://bucket/shards/*.tar", "photos/"], known=units)   # only what has been added since
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scclip.pipeline.inputs.readers import parquet, webdataset
from scclip.pipeline.inputs.resolve import InputError, Shard, resolve
from scclip.pipeline.inputs.units import PlannedFile, Unit
from scclip.pipeline.storage.retries import redact

FILES_PER_UNIT = 256


def plan_units(
    inputs: Sequence[str],
    known: Sequence[Unit] = (),
    *,
    truth: str | None = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
) -> list[Unit]:
    """The units of `inputs` that are not `known` yet, numbered on from those.

    Args:
        inputs: URLs, paths or globs of tars, Parquet files, images, folders of these, COCO JSON files, or text lists.
        known: the units of earlier generations of the plan; a shard or file in them is never planned again.
        truth: extension of ground-truth files, which are then no images.
        limit: plan only the first `limit` images, those of `known` included.
        exclude: folders to leave out, such as the run's own output.

    Raises InputError for a path that does not exist, holds nothing to label, or is of an unknown kind.
    """
    if not inputs:
        raise InputError("no input is given; name a shard, a folder, a glob or a list")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give 1 or more")
    sources = [source for name in inputs for source in resolve(name, truth=truth, exclude=exclude)]
    new = list(_new_sources(sources, known))
    drafts = [draft for part in _threads(_shard_units, new) for draft in part] if limit is None else None
    numbers = iter(range(1 + max((unit.number for unit in known), default=0), 2**31))
    if drafts is not None:
        return [dataclasses.replace(draft, number=next(numbers)) for draft in drafts]
    lazily = (draft for source in new for draft in _shard_units(source))
    return [dataclasses.replace(draft, number=next(numbers)) for draft in _limited(lazily, known, limit or 0)]


def _new_sources(sources: Iterable[Shard | list[PlannedFile]], known: Sequence[Unit]) -> Iterator[Any]:
    seen = {unit.url for unit in known if unit.kind != "files"} | {file.url for unit in known for file in unit.files}
    for source in sources:
        if isinstance(source, Shard):
            if source.file.url not in seen:
                yield source
            seen.add(source.file.url)
        else:
            files = [file for file in dict.fromkeys(source) if file.url not in seen]
            seen.update(file.url for file in files)
            for first in range(0, len(files), FILES_PER_UNIT):
                yield tuple(files[first : first + FILES_PER_UNIT])


def _threads(function: Any, items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(function, items))


def _shard_units(source: Shard | tuple[PlannedFile, ...]) -> list[Unit]:
    if isinstance(source, tuple):
        folder = source[0].url.rpartition("/")[0]
        size = sum(max(file.size, 0) for file in source)
        return [Unit(number=0, kind="files", url=folder, size=size, version="", files=source)]
    file = source.file
    draft = Unit(number=0, kind=source.kind, url=file.url, size=file.size, version=file.version)
    if source.kind == "tar":
        return [draft]
    try:
        ranges = parquet.row_ranges(file.url, file.size)
    except ValueError as error:
        raise InputError(f"{redact(file.url)}: {error}") from None
    return [dataclasses.replace(draft, row_start=start, row_stop=stop) for start, stop in ranges]


def _limited(drafts: Iterable[Unit], known: Sequence[Unit], limit: int) -> Iterator[Unit]:
    left = limit - sum(count_images(unit, limit) for unit in known)
    for draft in drafts:
        if left <= 0:
            return
        count = count_images(draft, left + 1)
        yield dataclasses.replace(draft, image_limit=left) if count > left else draft
        left -= count


def count_images(unit: Unit, at_most: int | None = None) -> int:
    """Rows that reading the unit gives (failed ones included), counted up to `at_most`; reads a tar's headers."""
    bounds = [bound for bound in (unit.image_limit, at_most) if bound is not None]
    if unit.kind == "tar":
        return webdataset.count_images(unit.url, unit.size, min(bounds, default=None))
    count = (
        len(unit.files) if unit.kind == "files" else max(unit.row_stop - unit.row_start, 1 if unit.row_stop < 0 else 0)
    )
    return min([count, *bounds])
