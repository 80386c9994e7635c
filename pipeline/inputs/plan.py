"""The plan: inputs of every form become numbered units, shards or groups of image files.

>>> units = plan_units(["s3://bucket/shards/*.tar", "photos/"])
>>> more = plan_units(["s3://bucket/shards/*.tar", "photos/"], known=units)   # only what has been added since
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from scclip.pipeline.inputs.readers.registry import READERS
from scclip.pipeline.inputs.resolve import InputError, resolve
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.threads import map_threads


def plan_units(
    inputs: Sequence[str],
    known: Sequence[Unit] = (),
    *,
    truth: str | None = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
) -> list[Unit]:
    """The units of `inputs` that are not `known` yet. Their numbers follow those of the known units.

    Args:
        inputs: URLs, paths or globs of shards, images, folders of these, COCO JSON files, or text lists.
        known: the units of earlier generations of the plan; a shard or file in them is never planned again.
        truth: extension of ground-truth files, which are then not images.
        limit: plan only the first `limit` images, those of `known` included.
        exclude: folders to leave out, such as the run's own output.

    Raises:
        InputError: a path does not exist, holds nothing to label, or is of an unknown kind.
    """
    if not inputs:
        raise InputError("no input is given; name a shard, a folder, a glob or a list")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give 1 or more")
    drafts = list(_new([draft for name in inputs for draft in resolve(name, truth=truth, exclude=exclude)], known))
    if limit is None:
        units = [unit for group in map_threads(_split, drafts) for unit in group]
    else:
        units = list(_first_images((unit for draft in drafts for unit in _split(draft)), known, limit))
    first = 1 + max((unit.number for unit in known), default=0)
    return [dataclasses.replace(unit, number=number) for number, unit in enumerate(units, first)]


def _new(drafts: Iterable[Unit], known: Sequence[Unit]) -> Iterator[Unit]:
    """The drafts without the shards and files that known units or earlier drafts read."""
    seen = {url for unit in known for url in unit.urls}
    for draft in drafts:
        files = tuple(file for file in dict.fromkeys(draft.files) if file.url not in seen)
        if files or not (draft.files or draft.url in seen):
            yield dataclasses.replace(draft, files=files)
        seen.update(draft.urls)


def _split(draft: Unit) -> list[Unit]:
    try:
        return READERS[draft.kind].plan(draft)
    except ValueError as error:
        raise InputError(f"{redact(draft.url)}: {error}") from None


def _first_images(units: Iterable[Unit], known: Sequence[Unit], limit: int) -> Iterator[Unit]:
    """The units up to image number `limit`; those of `known` count."""
    left = limit - sum(count_images(unit, limit) for unit in known)
    for unit in units:
        if left <= 0:
            return
        count = count_images(unit, left + 1)
        yield dataclasses.replace(unit, image_limit=left) if count > left else unit
        left -= count


def count_images(unit: Unit, limit: int | None = None) -> int:
    """Images that reading the unit gives, failed ones included.

    Args:
        unit: a unit of a plan. The headers of a tar are read; other kinds are counted by the plan alone.
        limit: stop counting there.
    """
    limit = min((bound for bound in (unit.image_limit, limit) if bound is not None), default=None)
    count = READERS[unit.kind].count(unit, limit)
    return count if limit is None else min(count, limit)
