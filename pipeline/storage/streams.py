"""Files too large for memory, written once and whole on any fsspec URL.

create_stream("s3://bucket/instances.json", lambda: iter([b"{", b"}"]))   # False: it exists and stays as it is
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from scclip.pipeline.storage.files import exists
from scclip.pipeline.storage.local import write_whole
from scclip.pipeline.storage.ranges import filesystem
from scclip.pipeline.storage.retries import with_retries

BLOCK = 2**22  # bytes read from a scratch file at a time
SPOOL = 2**25  # bytes of a scratch file that stay in memory


def create_stream(url: str, pieces: Callable[[], Iterator[bytes]]) -> bool:
    """Writes a new file from pieces, which becomes visible when it is whole.

    On object stores it is a multipart upload; of two writers of the same new name the last one wins.

    Args:
        url: the file.
        pieces: makes the content anew; called again for every retry.

    Returns:
        True where it was written; False where the file exists, which then stays as it is.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return with_retries(lambda: write_whole(path, pieces(), exclusive=True), "create", url)
    if exists(url):
        return False
    with_retries(lambda: _upload(fs, path, pieces()), "create", url)
    return True


def _upload(fs: AbstractFileSystem, path: str, pieces: Iterator[bytes]) -> None:
    """One upload; an interrupted one is discarded."""
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
    """A temporary file of this process, in memory up to SPOOL bytes."""
    return tempfile.SpooledTemporaryFile(SPOOL)
