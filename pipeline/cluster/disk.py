"""The folder of this machine in which Ray keeps its logs, its sockets and the objects that it spills."""

import os
import shutil

ROOM = 100 * 2**20  # bytes; with less, Ray's servers and workers cannot start, and those that run wait


def ray_folder() -> tuple[str, str]:
    """(variable that names the folder, "" where none does; the folder)."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    return name, os.environ.get(name, "/tmp")


def full_disk() -> str:
    """Says that Ray's folder has hardly any room left; "" where it has enough, or cannot be asked."""
    folder = ray_folder()[1]
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return (
        "" if free >= ROOM else f"{folder}, where Ray keeps its logs and spilled objects, has {free / 1e6:.0f} MB free"
    )
