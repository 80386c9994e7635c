"""Removes what a run no longer needs, or is to make again; without the libraries that labels are written with.

tidy(files, files.finished())
"""

from collections.abc import Collection, Iterable

from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import remove, remove_abandoned

ABANDONED = 3600  # seconds after which a temporary file has no writer any more: writing one takes seconds


def uncommit(files: RunFiles, units: Iterable[int]) -> None:
    """Takes back finished units so that they are labeled again (--retry-failed): images/ first, then the rest."""
    for unit in units:
        remove([files.unit_file("images", unit)])
        remove(files.unit_file(kind, unit) for kind in ("segments", "coco", "masks"))


def tidy(files: RunFiles, finished: Collection[int]) -> None:
    """Removes what killed writers left behind: parts of finished units, and temporaries older than an hour."""
    stale = [files.part(unit, chunk) for unit, chunks in files.parts().items() if unit in finished for chunk in chunks]
    remove(stale, prune=True)
    remove_abandoned(files.output, ABANDONED)
