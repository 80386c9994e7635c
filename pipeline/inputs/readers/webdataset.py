"""WebDataset shards: tar members joined to samples, one row per image.

How members are joined. Members of one key that follow each other are a sample; a second member of the same extension
begins a new one. An image takes the sidecars of its sample. Where the sample has none of the kind that is needed
(metadata; ground truth, where asked for), all headers of the shard are read once, and the image takes the first
sidecar of the same key, wherever it stands; for metadata also that of the key up to its first dot (WebDataset's own
key). How an image is joined depends on the shard alone, so reading on from any chunk gives the same rows. The headers
of a large plain tar are not read where only metadata is missing and neither its first nor its last MiB holds any.

>>> for image in WebDatasetReader().read(unit, ResumePoint(), truth="seg.png"): ...
"""

import contextlib
import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, METADATA_EXTENSIONS, normalize_extension, split_name
from scclip.pipeline.inputs.readers.metadata import MAX_METADATA, sidecar_metadata
from scclip.pipeline.inputs.readers.tar import BLOCK, GzipStream, Member, Stream, TarError, header_names, members
from scclip.pipeline.inputs.refusals import too_large
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.storage.files import is_local, open_stream, read_bytes
from scclip.pipeline.storage.ranges import RangeFile
from scclip.pipeline.storage.streams import scratch

PROBE = 2**20  # bytes at both ends of a shard that tell whether it has metadata at all


class WebDatasetReader:
    """Reads tars, plain or gzip; a broken tar ends with one image `bad_shard` that says why."""

    endings: tuple[str, ...] = (".tar", ".tar.gz", ".tgz")
    counts_by_reading = True

    def plan(self, draft: Unit) -> list[Unit]:
        return [draft]

    def count(self, unit: Unit, limit: int | None = None) -> int:
        return sum(1 for _ in itertools.islice(_read(unit, ResumePoint(), None, bodies=False), limit))

    def read(self, unit: Unit, start: ResumePoint, truth: str | None) -> Iterator[EncodedImage]:
        return _read(unit, start, normalize_extension(truth) if truth else None, bodies=True)

    def fraction(self, unit: Unit, point: ResumePoint) -> float:
        """By bytes; 1 for a gzip tar, which has no offsets."""
        return min(1, point.index) if point.offset is None else point.offset / max(1, unit.size)


@dataclass
class Sample:
    """Members of one key that follow each other."""

    key: str
    offset: int
    images: list[EncodedImage] = field(default_factory=list)
    sidecars: dict[str, bytes | None] = field(default_factory=dict)
    """Extension → body, None where it is too large."""
    extensions: set[str] = field(default_factory=set)


def _read(unit: Unit, start: ResumePoint, truth: str | None, *, bodies: bool) -> Iterator[EncodedImage]:
    """The images from `start` on; only plain tars begin at its offset. Without `bodies` only headers are read."""
    with open_stream(unit.url, start.offset or 0, size=unit.size) if bodies else _open_headers(unit) as file:
        stream = _unpacked(file, start.offset)
        images = _images(_samples(stream, truth, bodies), _Sidecars(unit, truth) if bodies else None)
        yield from _numbered(images, unit, start, plain=stream is file)


def _open_headers(unit: Unit) -> RangeFile:
    return open_stream(unit.url, size=unit.size, block=2**14 if is_local(unit.url) else 2**20)


def _unpacked(file: RangeFile, offset: int | None) -> RangeFile | GzipStream:
    """The file of a plain tar itself, or what a gzip tar unpacks to; a shard with an offset to go on from is plain."""
    if offset is not None:
        return file
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return GzipStream(file) if zipped else file


def _numbered(images: Iterator[EncodedImage], unit: Unit, start: ResumePoint, plain: bool) -> Iterator[EncodedImage]:
    """Numbers the images, leaves out those before `start`, and turns a TarError into the last image."""
    index = 0 if start.offset is None else start.index - start.skip
    try:
        for image in images:
            if index >= start.index:
                image.index = index
                if not plain:
                    image.offset, image.skip = None, 0
                yield image
            index += 1
    except TarError as error:
        if index >= start.index:
            yield EncodedImage.failed_shard(unit.url, index, str(error), offset=error.offset if plain else None)


def _images(samples: Iterator[Sample], sidecars: "_Sidecars | None") -> Iterator[EncodedImage]:
    for sample in (sample for sample in samples if sample.images):
        truth, metadata = sidecars.join(sample) if sidecars else (None, None)
        for skip, image in enumerate(sample.images):
            image.truth, image.metadata, image.offset, image.skip = truth, metadata, sample.offset, skip
            yield image


def _samples(stream: RangeFile | GzipStream, truth: str | None, bodies: bool) -> Iterator[Sample]:
    """All samples, also those without images, in order of their first members."""
    sample, failure = Sample("", 0), None
    try:
        for member, key, extension in _images_and_sidecars(stream, truth):
            if key != sample.key or extension in sample.extensions:
                yield sample
                sample = Sample(key, member.offset)
            sample.extensions.add(extension)
            if extension in METADATA_EXTENSIONS or extension == truth:
                sample.sidecars[extension] = _sidecar(stream, member, extension) if bodies else b""
            else:
                sample.images.append(_image(stream, member, key, bodies))
    except TarError as error:
        failure = error
    yield sample
    if failure:
        raise failure


def _images_and_sidecars(stream: RangeFile | GzipStream, truth: str | None) -> Iterator[tuple[Member, str, str]]:
    """(member, key, extension) of the members that are images or sidecars."""
    for member in members(stream, stream.size if isinstance(stream, RangeFile) else None):
        key, extension = split_name(member.name, truth)
        sidecar = extension in METADATA_EXTENSIONS or extension == truth
        if member.kind == "file" if sidecar else extension in IMAGE_EXTENSIONS and member.kind != "folder":
            yield member, key, extension


def _image(stream: Stream, member: Member, key: str, bodies: bool) -> EncodedImage:
    image = EncodedImage(index=0, key=key, file_name=member.name)
    if member.kind != "file":
        image.status = Status.UNSUPPORTED
        image.error = f"{member.name} is a {member.kind} in the tar; store the image itself"
    elif refused := too_large(member.size):
        image.status, image.error = refused
    else:
        image.data = _body(stream, member, bodies)
    return image


def _sidecar(stream: Stream, member: Member, extension: str) -> bytes | None:
    refused = member.size > MAX_METADATA if extension in METADATA_EXTENSIONS else too_large(member.size)
    return None if refused else _body(stream, member)


def _body(stream: Stream, member: Member, wanted: bool = True) -> bytes | None:
    begin = stream.tell()
    data = stream.read(member.size) if wanted else None
    length = len(data) if data is not None else stream.seek(begin + member.size) - begin
    if length < member.size:
        raise TarError(f"cut inside {member.name}: {length:,} of {member.size:,} bytes are there", member.offset)
    return data


class _Sidecars:
    """Joins samples with their sidecars; reads the headers of the whole shard when the first one is missing."""

    def __init__(self, unit: Unit, truth: str | None) -> None:
        self._unit, self._truth = unit, truth
        self._spool = scratch()

    def join(self, sample: Sample) -> tuple[bytes | None, str | None]:
        """(ground truth, metadata) of the images of a sample."""
        metadata, truth = dict(sample.sidecars), None
        if self._truth:
            beside = metadata if self._truth in metadata else self._elsewhere(sample.key)
            truth = beside.pop(self._truth, None)
        if not metadata:
            metadata = self._elsewhere(_sample_base(sample.key)) | self._elsewhere(sample.key)
            metadata.pop(self._truth or "", None)
        return truth, sidecar_metadata(metadata)

    def _elsewhere(self, key: str) -> dict[str, bytes | None]:
        """Extension → body of the first sidecars of a key, wherever they stand."""
        return {extension: self._load(*position) for extension, position in self._positions.get(key, {}).items()}

    def _load(self, offset: int, length: int) -> bytes | None:
        self._spool.seek(offset)
        return self._spool.read(length) if length >= 0 else None

    @functools.cached_property
    def _positions(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Key → extension → (offset in the spool, length; -1 where it is too large); collected in one pass."""
        positions: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        if not self._truth and not _may_hold_metadata(self._unit):
            return positions
        with _open_headers(self._unit) as file, contextlib.suppress(TarError):  # the pass over the images reports it
            stream = _unpacked(file, None)
            for member, key, extension in _images_and_sidecars(stream, self._truth):
                if extension in (*METADATA_EXTENSIONS, self._truth) and extension not in positions[key]:
                    body = _sidecar(stream, member, extension)
                    positions[key][extension] = self._spool.tell(), -1 if body is None else len(body)
                    self._spool.write(body or b"")
        return positions


def _sample_base(key: str) -> str:
    """WebDataset's own key: up to the first dot of the last path component."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _may_hold_metadata(unit: Unit) -> bool:
    """False for a plain tar of images alone, judged by its two ends; True where they cannot tell."""
    if unit.size < 4 * PROBE:
        return True
    for offset in (0, (unit.size - PROBE) // BLOCK * BLOCK):
        names = list(header_names(read_bytes(unit.url, offset, PROBE)))
        if not names or any(not name or split_name(name)[1] in METADATA_EXTENSIONS for name in names):
            return True
    return False
