"""How exporters write files: many small ones at once, or large ones by way of scratch files.

with file_writer(exporter) as write_files: write_files(image, {url: data})
with scratch_writers(url_of_split, open_tar) as writer: add_file(writer("train"), name, data)
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import IO, TypeVar

from scclip.pipeline.export.exporter import Exporter
from scclip.pipeline.export.source import ExportError, ExportImage
from scclip.pipeline.storage.files import create, info, open_stream, read_bytes
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.streams import BLOCK, create_stream, scratch

Writer = TypeVar("Writer")


def write_new(url: str, data: bytes) -> None:
    """Writes a file; one of an attempt before with the same content stays. ExportError where another one is there."""
    if not create(url, data) and read_bytes(url) != data:
        raise occupied(url)


def read_fragment(url: str) -> bytes:
    """The content of a fragment; empty where a unit has none because it has no image in this split."""
    try:
        return read_bytes(url)
    except FileNotFoundError:
        return b""


def write_stream(url: str, pieces: Callable[[], Iterator[bytes]]) -> None:
    """`write_new` of a file too large for memory; `pieces` makes its content anew."""
    if create_stream(url, pieces):
        return
    size = info(url).size
    with open_stream(url, size=size) as present:
        if not all(present.read(len(piece)) == piece for piece in pieces()) or present.tell() < size:
            raise occupied(url)


def occupied(url: str) -> ExportError:
    """The error for a file that is in the way."""
    return ExportError(f"{redact(url)} is there already with other content; remove it or choose another OUTPUT")


@contextmanager
def file_writer(exporter: Exporter) -> Iterator[Callable[[ExportImage, Mapping[str, bytes]], None]]:
    """Gives a function that writes an image's small files, URL → content, and its picture where pictures are copied.

    The threads live as long as the block, because every new thread opens its own connection to the storage.
    """
    with ThreadPoolExecutor(8) as threads:

        def write_files(image: ExportImage, files: Mapping[str, bytes]) -> None:
            if image.data is not None:
                files = {exporter.picture_url(image): image.data, **files}
            for _ in threads.map(write_new, files.keys(), files.values()):
                pass

        yield write_files


@contextmanager
def scratch_writers(
    url: Callable[[str], str], opened: Callable[[IO[bytes]], AbstractContextManager[Writer]]
) -> Iterator[Callable[[str], Writer]]:
    """Gives a function that returns the writer of a key, opened on a scratch file when it is first asked for.

    At the end of the block all writers are closed and each scratch file is copied to its URL; after an error none is.
    """
    files: dict[str, IO[bytes]] = {}
    writers: dict[str, Writer] = {}
    with ExitStack() as open_files:
        with ExitStack() as open_writers:

            def writer(key: str) -> Writer:
                if key not in writers:
                    files[key] = open_files.enter_context(scratch())
                    writers[key] = open_writers.enter_context(opened(files[key]))
                return writers[key]

            yield writer
        for key, file in files.items():
            write_stream(url(key), partial(content, file))


def content(file: IO[bytes]) -> Iterator[bytes]:
    """A scratch file from its start, in pieces."""
    file.seek(0)
    return iter(lambda: file.read(BLOCK), b"")
