"""How exporters write files: many small ones at once, or large ones by way of scratch files.

with file_writer(job) as write_files: write_files(image, {url: data})
with scratch_writers(url_of_split, open_tar) as writer: add_file(writer("train"), name, data)
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, TypeVar

from scclip.pipeline.export.job import ExportJob
from scclip.pipeline.export.source import ExportImage
from scclip.pipeline.storage.files import create, join
from scclip.pipeline.storage.streams import create_file, scratch

Writer = TypeVar("Writer")


@contextmanager
def file_writer(job: ExportJob) -> Iterator[Callable[[ExportImage, Mapping[str, bytes]], None]]:
    """Gives a function that writes an image's small files, URL → content, and its picture where pictures are copied.

    Files that exist stay as they are. The threads live as long as the block, because every new thread opens its own
    connection to the storage.
    """
    with ThreadPoolExecutor(8) as threads:

        def write_files(image: ExportImage, files: Mapping[str, bytes]) -> None:
            if image.data is not None:
                files = {join(job.output, "images", image.split, image.picture_name): image.data, **files}
            for _ in threads.map(create, files.keys(), files.values()):
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
            create_file(url(key), file)
