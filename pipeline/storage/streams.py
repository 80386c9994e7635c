"""Files too large for memory, written once and whole on any fsspec URL.

create_stream("s3://bucket/instances.json", lambda: iter([b"{", b"}"]))   # False: it exists and stays as it is
with scratch() as file: ...; create_file(url, file)
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from scclip.pipeline.storage.files import exists
from scclip.pipeline.storage.local import write_pieces
from scclip.pipeline.storage.ranges import filesystem
from scclip.pipeline.storage.retries import with_retries

BLOCK = 2**22  # bytes read from a scratch file at a time
SPOOL = 2**25  # bytes of a scratch file that stay in memory


def create_stream(url: str, pieces: Callable[[], Iterator[bytes]]) -> bool:
    """Writes a file from pieces, visible only when whole; False, leaving everything alone, where it already exists.

    `pieces` is called again where storage makes a retry necessary. On object stores it is a multipart upload that
    appears when it is complete; of two writers of the same new name the last one wins.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: write_pieces(path, pieces(), exclusive=True), "create", url)
    if exists(url):
        return False
    with_retries(lambda: upload(fs, path, pieces()), "create", url)
    return True


def upload(fs: Any, path: str, pieces: Iterator[bytes]) -> None:
    """One upload; an interrupted one is given up and leaves nothing to see."""
    file = fs.open(path, "wb")
    try:
        for piece in pieces:
            file.write(piece)
    except BaseException:
        with suppress(Exception):
            file.discard()
        file.closed = True  # closing it would publish what has arrived so far
        raise
    file.close()


def scratch() -> IO[bytes]:
    """A temporary file of this process, in memory while it is small."""
    return tempfile.SpooledTemporaryFile(SPOOL)


def create_file(url: str, file: IO[bytes]) -> bool:
    """`create_stream` from a scratch file's content."""

    def pieces() -> Iterator[bytes]:
        file.seek(0)
        while block := file.read(BLOCK):
            yield block

    return create_stream(url, pieces)
