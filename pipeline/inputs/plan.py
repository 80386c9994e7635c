"""The plan: inputs of every form become numbered units, shards or groups of image files.

>>> units = plan_units(["s3://bucket/shards/*.tar", "photos/"])
>>> more = plan_units(["s3://bucket/shards/*.tar", "photos/"], known=units)   # only what has been added since
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence

from scclip.pipeline.inputs.passed_over import NO_IMAGE_COLUMN, OTHER_NAMES, PassedOver
from scclip.pipeline.inputs.readers.registry import READERS
from scclip.pipeline.inputs.readers.table_rows import NoImageColumn
from scclip.pipeline.inputs.resolve import InputError, Search, canonical, resolve
from scclip.pipeline.inputs.units import PlannedFile, Unit
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import public_url
from scclip.pipeline.storage.threads import map_threads


def plan_units(
    inputs: Sequence[str],
    known: Sequence[Unit] = (),
    *,
    truth: str | None = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
    image_column: str | None = None,
    passed: PassedOver | None = None,
) -> list[Unit]:
    """The units of `inputs` that are not `known` yet. Their numbers follow those of the known units.

    Args:
        inputs: URLs, paths or globs of shards, images, folders of these, COCO JSON files, or text lists.
        known: the units of earlier generations of the plan; a shard or file in them is never planned again.
        truth: extension of ground-truth files, which are then not images.
        limit: plan only the first `limit` images, those of `known` included.
        exclude: folders to leave out, such as the run's own output.
        image_column: the column of tables that holds the images; None: one of the usual names.
        passed: counts the files that are passed over.

    Raises:
        InputError: a path does not exist, holds nothing to label, or is of an unknown kind.
    """
    if not inputs:
        raise InputError("no input is given; name a shard, a folder, a glob or a list")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give 1 or more")
    passed = PassedOver() if passed is None else passed
    search = Search(truth=truth, exclude=exclude, passed=passed)
    found = [draft for name in inputs for draft in resolve(name, search)]
    drafts = [dataclasses.replace(draft, image_column=image_column) for draft in _joined(_new(found, known, passed))]
    without = list[InputError]()
    splits = map_threads(_split, drafts) if limit is None else map(_split, drafts)
    split = (unit for part in splits for unit in _with_images(part, inputs, passed, without))
    units = list(split if limit is None else _first_images(split, known, limit))
    if without and not units and not known:
        raise without[0]
    first = 1 + max((unit.number for unit in known), default=0)
    return [dataclasses.replace(unit, number=number) for number, unit in enumerate(units, first)]


def _new(drafts: Iterable[Unit], known: Sequence[Unit], passed: PassedOver) -> Iterator[Unit]:
    """The drafts without the shards and files that known units or earlier drafts read, under whatever name."""
    real_path = functools.cache(os.path.realpath)

    def own_name(url: str) -> str:
        """As `canonical`, without credentials; older plans have the names as they were written."""
        folder, _, base = url.rpartition("/")
        return f"{real_path(folder or '/').rstrip('/')}/{base}" if url.startswith("/") else public_url(url)

    taken = ((source.target, own_name(source.url)) for unit in known for source in unit.sources)
    seen = {target or name: name for target, name in taken}

    def is_new(source: Unit | PlannedFile, names: dict[str, str]) -> bool:
        """Whether nothing before this draft, and no other name in it (`names`), is the same file."""
        own = own_name(source.url)
        name = source.target or own
        first = seen.get(name) or names.setdefault(name, own)
        if first != own:
            passed.add(OTHER_NAMES, source.url)
        return first == own and name not in seen

    for draft in drafts:
        names = dict[str, str]()
        if draft.files:
            files = tuple(file for file in dict.fromkeys(draft.files) if is_new(file, names))
            if files:
                yield dataclasses.replace(draft, files=files)
        elif is_new(draft, names):
            yield draft
        seen.update(names)


def _joined(drafts: Iterable[Unit]) -> Iterator[Unit]:
    """The drafts, but single image files together with the image files beside them: they share units as in a folder."""
    waiting, single = list[Unit](), False
    for draft in drafts:
        if waiting and not (draft.files and (single or len(draft.files) == 1)):
            yield _together(waiting)
            waiting = []
        if draft.files:
            waiting.append(draft)
            single = len(draft.files) == 1
        else:
            yield draft
    if waiting:
        yield _together(waiting)


def _together(drafts: Sequence[Unit]) -> Unit:
    return dataclasses.replace(drafts[0], files=tuple(file for draft in drafts for file in draft.files))


def _split(draft: Unit) -> tuple[Unit, list[Unit] | NoImageColumn]:
    """A draft with its units, or with the reason why it is a table without images."""
    try:
        return draft, READERS[draft.kind].plan(draft)
    except NoImageColumn as error:
        return draft, error
    except ValueError as error:
        raise InputError(f"{redact(draft.url)}: {error}") from None


def _with_images(
    part: tuple[Unit, list[Unit] | NoImageColumn], inputs: Sequence[str], passed: PassedOver, without: list[InputError]
) -> list[Unit]:
    """The units of a draft; none for a table without images, which is passed over unless an input is that very file."""
    draft, units = part
    if isinstance(units, list):
        return units
    error = InputError(f"{redact(draft.url)}: {units}")
    if draft.url in map(canonical, inputs):
        raise error
    passed.add(NO_IMAGE_COLUMN, draft.url)
    without.append(error)
    return []


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
    try:
        count = READERS[unit.kind].count(unit, limit)
    except (FileNotFoundError, PermissionError):
        count = 1  # the row that says why
    return count if limit is None else min(count, limit)
