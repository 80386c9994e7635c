"""Keeps people's own files from standing in for modules that Python and Ray need.

The folder that somebody works in, or has on PYTHONPATH, may hold a `statistics.py`, a `queue.py` or a folder `jobs/`.

    standard_library_first()   # before anything else is imported
"""

import os
import sys

import scclip


def standard_library_first() -> None:
    """Puts the standard library at the head of `sys.path`, and the current folder at its end.

    The current folder stays where it is if it holds this very package, as in a submitted job.
    """
    current, library = current_folder(), library_folders()
    others = [folder for folder in sys.path if folder not in library]
    if current and not holds_package(current):
        others = [folder for folder in others if folder not in ("", current)] + [current]
    sys.path[:] = [*library, *others]


def python_path() -> str | None:
    """Returns PYTHONPATH for child processes: the standard library, then the user's entries; None without any."""
    given = os.environ.get("PYTHONPATH")
    if not given:
        return None
    library = library_folders()
    return os.pathsep.join([*library, *(entry for entry in given.split(os.pathsep) if entry not in library)])


def library_folders() -> list[str]:
    """Returns the entries of `sys.path` that are the standard library's, in their order."""
    library = os.path.dirname(os.__file__)
    archive = os.path.join(os.path.dirname(library), f"python{sys.version_info[0]}{sys.version_info[1]}.zip")
    own = (archive, library, os.path.join(library, "lib-dynload"))
    return [folder for folder in dict.fromkeys(sys.path) if folder in own]


def current_folder() -> str | None:
    """Returns the current folder; None where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def holds_package(folder: str) -> bool:
    """Returns whether this package lies in `folder`."""
    return os.path.realpath(os.path.dirname(os.path.dirname(str(scclip.__file__)))) == os.path.realpath(folder)
