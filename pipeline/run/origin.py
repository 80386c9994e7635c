"""Whether a plan may be followed to pictures: whoever made a run wrote into its plan which files are its images.

    own_plan(files)                  # this user made it, on this machine
    outside(files, units)            # None, or the first file that lies neither beside the run nor in its bucket

Each plan that is written here leaves an empty file in the user's cache, named after the plan's digest.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import is_local, join, list_files, read_bytes


def remember_plan(data: bytes) -> None:
    """Notes that this user has made a plan; without a cache that can be written nothing is noted."""
    with contextlib.suppress(OSError, RuntimeError):
        mark = _mark(data)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def own_plan(files: RunFiles) -> bool:
    """Whether all generations of a run's plan were made by this user on this machine."""
    with contextlib.suppress(RuntimeError):
        plans = [file for file in list_files(join(files.output, "plan")) if file.url.endswith(".parquet")]
        return all(_mark(read_bytes(file.url, expected_size=file.size)).exists() for file in plans)
    return False


def _mark(data: bytes) -> Path:
    """The note of a plan. RuntimeError where the system knows no home of this user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "scclip" / "plans" / hashlib.sha256(data).hexdigest()


def outside(files: RunFiles, units: Iterable[Unit]) -> str | None:
    """The first file of these units that is not near the run: in its bucket or on its host, locally beside its folder.

    Beside a folder of the root or of the user's home lies all that the user has, so that only the folder itself counts.
    """
    near = _near(files.output)
    return next((file.url for unit in units for file in unit.sources if not _place(file.url).startswith(near)), None)


def _near(output: str) -> str:
    if not is_local(output):
        return _place(output)
    run = os.path.realpath(output.removeprefix("file://"))
    parent = os.path.dirname(run)
    return f"{run if parent in ('/', os.path.realpath(os.path.expanduser('~'))) else parent}/"


def _place(url: str) -> str:
    """Protocol and host or bucket with a slash behind; for a local file its path behind all links."""
    if is_local(url):
        return os.path.realpath(url.removeprefix("file://"))
    protocol, _, rest = url.partition("://")
    return f"{protocol}://{rest.partition('/')[0]}/"
