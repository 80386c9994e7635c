"""WebDataset shards: tar members joined to samples, one row per image.

How members are joined. Members of one key that follow each other are a sample; a second member of the same extension
begins a new one. An image takes the sidecars of its sample. If there are none of the wanted kind (metadata; ground
truth, where asked for), the whole shard's headers are read once and the first sidecar of the same key is taken
wherever it stands, for metadata also that of the key's part up to its first dot (WebDataset's own key). Each image's
join depends on the shard alone, so reading on from any chunk gives the same rows. A second reading of a large plain
tar is spared where only metadata is missed, and neither its first nor its last MiB holds any.

>>> for row in read_rows("shard.tar", size, start=ResumePoint(), truth="seg.png"): ...
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.chunks import EncodedImage, ResumePoint
from scclip.pipeline.inputs.names import (
    IMAGE_EXTENSIONS,
    METADATA_EXTENSIONS,
    normalize_extension,
    sample_base,
    split_name,
)
from scclip.pipeline.inputs.readers.tar import BLOCK, GzipStream, Member, TarError, header_names, members
from scclip.pipeline.storage.files import is_local, open_stream, read_bytes
from scclip.pipeline.storage.ranges import RangeFile

MAX_BODY = 2**29  # bytes of one image or label: anything bigger is not one
MAX_METADATA = 2**20  # bytes of one metadata sidecar
PROBE = 2**20  # bytes at both ends of a shard that tell whether it has metadata at all
SPOOL = 2**25  # bytes of late sidecars kept in memory; more go to a temporary file


@dataclass
class Sample:
    """Members of one key that follow each other."""

    key: str
    offset: int
    images: list[tuple[Member, bytes | None, str | None]] = field(default_factory=list)
    """(member, body, what is wrong with it)."""
    sidecars: dict[str, bytes | None] = field(default_factory=dict)
    """Extension → body, None where it is too large."""
    extensions: set[str] = field(default_factory=set)


def read_rows(
    url: str, size: int, *, start: ResumePoint | None = None, truth: str | None = None, bodies: bool = True
) -> Iterator[EncodedImage]:
    """The images of a tar, plain or gzip, in order; a broken tar ends with one row `bad_shard` that says why.

    Args:
        start: where to begin; rows before it are left out. Only plain tars begin at its offset.
        truth: extension of the sidecar that becomes `truth`; members that end in it are no images.
        bodies: False reads the headers alone (rows without data), to count.

    Raises StorageError where the file is shorter than `size`.
    """
    start = start or ResumePoint()
    with open_stream(url, start.offset or 0, size=size) if bodies else _headers_only(url, size) as file:
        stream, plain = _opened(file, start.offset)
        rows = _rows(stream, size if plain else None, _Late(url, size, truth if bodies else None), truth, bodies)
        yield from _placed(rows, start, plain, url.rpartition("/")[2])


def count_images(url: str, size: int, at_most: int | None = None) -> int:
    """Rows that `read_rows` would give, counted up to `at_most`."""
    count = 0
    for count, _ in enumerate(read_rows(url, size, bodies=False), 1):
        if count == at_most:
            break
    return count


def _opened(file: RangeFile, offset: int | None) -> tuple[Any, bool]:
    """(stream, is it a plain tar); what has an offset to go on from is plain."""
    if offset is not None:
        return file, True
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return (GzipStream(file), False) if zipped else (file, True)


def _headers_only(url: str, size: int) -> RangeFile:
    return open_stream(url, size=size, block=2**14 if is_local(url) else 2**20)


def _placed(rows: Iterator[EncodedImage], start: ResumePoint, plain: bool, name: str) -> Iterator[EncodedImage]:
    """Numbers the rows, leaves out those before `start`, and turns a TarError into the last row."""
    seeks = plain and start.offset is not None
    index, first = start.index - start.skip if seeks else 0, start.index
    try:
        for row in rows:
            if index >= first:
                row.index = index
                if not plain:
                    row.offset, row.skip = None, 0
                yield row
            index += 1
    except TarError as error:
        if index >= first:
            row = EncodedImage(index=index, key=name, file_name=name, status=Status.BAD_SHARD, error=str(error))
            row.offset = error.offset if plain else None
            yield row


def _rows(stream: Any, size: int | None, late: "_Late", truth: str | None, bodies: bool) -> Iterator[EncodedImage]:
    for sample in _samples(stream, size, truth, bodies):
        for skip, (member, data, error) in enumerate(sample.images):
            status = Status.OK if error is None else Status.UNSUPPORTED if member.kind != "file" else Status.TOO_LARGE
            label, metadata = late.join(sample, truth) if bodies else (None, None)
            yield EncodedImage(
                index=0,
                key=sample.key,
                file_name=member.name,
                data=data,
                truth=label,
                metadata=metadata,
                status=status,
                error=error,
                offset=sample.offset,
                skip=skip,
            )


def _samples(stream: Any, size: int | None, truth: str | None, bodies: bool) -> Iterator[Sample]:
    """Samples with at least one image, in order of their first members."""
    sample, failure = Sample("", 0), None
    try:
        for member, key, extension in _wanted(stream, size, truth):
            if key != sample.key or extension in sample.extensions:
                if sample.images:
                    yield sample
                sample = Sample(key, member.offset)
            _add(sample, member, extension, stream, truth, bodies)
    except TarError as error:
        failure = error
    if sample.images:
        yield sample
    if failure:
        raise failure


def _wanted(stream: Any, size: int | None, truth: str | None) -> Iterator[tuple[Member, str, str]]:
    """The members that are images or sidecars, with key and extension."""
    ending = normalize_extension(truth) if truth else None
    for member in members(stream, size):
        key, extension = split_name(member.name, truth)
        sidecar = extension in METADATA_EXTENSIONS or extension == ending
        if member.kind == "file" if sidecar else extension in IMAGE_EXTENSIONS and member.kind != "folder":
            yield member, key, extension


def _add(sample: Sample, member: Member, extension: str, stream: Any, truth: str | None, bodies: bool) -> None:
    sample.extensions.add(extension)
    if extension in METADATA_EXTENSIONS or (truth and extension == normalize_extension(truth)):
        sample.sidecars[extension] = _sidecar(stream, member, extension) if bodies else b""
    elif member.kind != "file":
        sample.images.append((member, None, f"{member.name} is a {member.kind} in the tar; store the image itself"))
    elif member.size > MAX_BODY:
        sample.images.append((member, None, f"{member.size:,} bytes; at most {MAX_BODY:,} are read"))
    else:
        sample.images.append((member, _body(stream, member, bodies), None))


def _sidecar(stream: Any, member: Member, extension: str) -> bytes | None:
    limit = MAX_METADATA if extension in METADATA_EXTENSIONS else MAX_BODY
    return _body(stream, member) if member.size <= limit else None


def _body(stream: Any, member: Member, wanted: bool = True) -> bytes | None:
    begin = stream.tell()
    data = stream.read(member.size) if wanted else None
    length = len(data) if data is not None else stream.seek(begin + member.size) - begin
    if length < member.size:
        raise TarError(f"cut inside {member.name}: {length:,} of {member.size:,} bytes are there", member.offset)
    return data


class _Late:
    """Sidecars that do not stand beside their image; collected by one pass over the shard when the first is missed."""

    def __init__(self, url: str, size: int, truth: str | None) -> None:
        self._url, self._size, self._truth = url, size, truth
        self._places: dict[str, dict[str, tuple[int, int]]] | None = None
        self._spool: IO[bytes] | None = None
        self._last: tuple[Sample, bytes | None, str | None] | None = None

    def join(self, sample: Sample, truth: str | None) -> tuple[bytes | None, str | None]:
        """(ground truth, metadata) of a sample's images; the second image of a sample costs nothing."""
        if self._last is None or self._last[0] is not sample:
            self._last = (sample, self._label(sample, truth), self._metadata(sample))
        return self._last[1:]

    def _label(self, sample: Sample, truth: str | None) -> bytes | None:
        if not truth:
            return None
        ending = normalize_extension(truth)
        return sample.sidecars[ending] if ending in sample.sidecars else self._find(sample.key).get(ending)

    def _metadata(self, sample: Sample) -> str | None:
        ending = normalize_extension(self._truth) if self._truth else None
        found = {name: body for name, body in sample.sidecars.items() if name != ending}
        if not found:
            found = {**self._find(sample_base(sample.key)), **self._find(sample.key)}
            found.pop(ending or "", None)
        return metadata_json(found)

    def _find(self, key: str) -> dict[str, bytes | None]:
        if self._places is None:
            self._places = self._collect() if self._truth or _may_hold_metadata(self._url, self._size) else {}
        return {extension: self._read(*place) for extension, place in self._places.get(key, {}).items()}

    def _read(self, offset: int, length: int) -> bytes | None:
        if length < 0 or self._spool is None:
            return None
        self._spool.seek(offset)
        return self._spool.read(length)

    def _collect(self) -> dict[str, dict[str, tuple[int, int]]]:
        places, ending = dict[str, dict[str, tuple[int, int]]](), normalize_extension(self._truth or "")
        self._spool = tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - lives as long as the reading
        with _headers_only(self._url, self._size) as file:
            stream, plain = _opened(file, None)
            try:
                for member, key, extension in _wanted(stream, self._size if plain else None, self._truth):
                    if extension in (*METADATA_EXTENSIONS, ending) and extension not in places.get(key, {}):
                        body = _sidecar(stream, member, extension)
                        place = (self._spool.tell(), len(body)) if body is not None else (0, -1)
                        places.setdefault(key, {})[extension] = place
                        self._spool.write(body or b"")
            except TarError:
                pass  # the pass over the images reports it
        return places


def _may_hold_metadata(url: str, size: int) -> bool:
    """False for a plain tar of images alone, judged by its two ends; True where they cannot tell."""
    if size < 4 * PROBE:
        return True
    for offset in (0, (size - PROBE) // BLOCK * BLOCK):
        names = list(header_names(read_bytes(url, offset, PROBE)))
        if not names or any(not name or split_name(name)[1] in METADATA_EXTENSIONS for name in names):
            return True
    return False


def metadata_json(sidecars: dict[str, bytes | None]) -> str | None:
    """Sidecars as one JSON object: a json object's own entries, anything else under its extension; None for none."""
    merged = dict[str, Any]()
    for extension in sorted(sidecars):
        body = sidecars[extension]
        if body is None:
            merged.setdefault(f"{extension}_note", f"left out: over {MAX_METADATA:,} bytes")
        elif extension == "json":
            merged |= _parsed(body)
        else:
            merged[extension] = body.decode("utf-8", "replace")
    return json.dumps(merged, default=str) if merged else None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=lambda name: None)  # NaN and Infinity are not JSON
        json.dumps(value)
        return value if isinstance(value, dict) else {"json": value}
    except (ValueError, RecursionError) as error:
        return {"json_note": f"left out: not JSON ({type(error).__name__})"}
