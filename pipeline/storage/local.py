"""Whole files on a local or mounted filesystem: visible at once or not at all.

>>> write_whole("/runs/one/run.json", [data], exclusive=True)   # False: the file exists and stays as it is
"""

import contextlib
import ctypes
import errno
import os
import re
import time
import uuid
from collections.abc import Iterable

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def write_whole(path: str, pieces: Iterable[bytes], *, exclusive: bool) -> bool:
    """Writes a file under a temporary name, then gives it its own.

    Args:
        path: the file; its folders are created.
        pieces: its content.
        exclusive: leave an existing file as it is, instead of replacing it.

    Returns:
        True where it was written; False where the file exists and `exclusive` is set.
    """
    folder, name = os.path.split(path)
    try:
        os.makedirs(folder or ".", exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder") from None
    if exclusive and os.path.lexists(path):
        return False
    begin = os.fsencode(name)[:180].decode(errors="ignore")  # bytes count: filesystems take 255 of them
    temporary = os.path.join(folder, f".{begin}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if not exclusive:
            os.replace(temporary, path)
        written = not exclusive or _link_new(temporary, path)
        _sync_folder(folder or ".")
        return written
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _link_new(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return os.stat(temporary).st_nlink > 1  # NFS may report its own repeated request as a conflict
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
            raise
        return _rename_new(temporary, path)


def _rename_new(temporary: str, path: str) -> bool:
    """Moves a file to a name that nothing has yet, on filesystems without hard links (Linux's renameat2)."""
    at_working_folder, no_replace = -100, 1
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOTSUP, "the filesystem has no hard links and the system no renameat2")
    if rename(at_working_folder, os.fsencode(temporary), at_working_folder, os.fsencode(path), no_replace) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    raise OSError(code, os.strerror(code))


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network filesystems refuse it for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: str, older_than: float) -> None:
    """Deletes temporary files of `write_whole` below a folder that are older than `older_than` seconds."""
    for parent, _, names in os.walk(folder):
        for name in filter(TEMPORARY.fullmatch, names):
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime > older_than:
                    os.unlink(path)
