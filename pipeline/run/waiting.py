"""The note that a job leaves in OUTPUT while it waits, for `scclip status`.

write_note(files, "4 of 4 CPUs are in use by others"); print(read_note(files))
"""

import json
import time

from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.storage.files import join, read_bytes, remove, replace


def note_url(files: RunFiles) -> str:
    """Where the note lies."""
    return join(files.output, "_waiting.json")


def write_note(files: RunFiles, text: str) -> None:
    """Writes the note, in place of an older one."""
    replace(note_url(files), json.dumps({"waits": text, "at": time.time()}).encode())


def read_note(files: RunFiles) -> str | None:
    """`for 90 s: TEXT (at 2026-01-31 14:02:11)`; None where no job waits. A killed job leaves its last."""
    try:
        note = json.loads(read_bytes(note_url(files)))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["at"]))
        return f"{note['waits'].removeprefix('waiting ')} (at {when})"
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, OverflowError):  # or not of our making
        return None


def remove_note(files: RunFiles) -> None:
    """Removes the note."""
    remove([note_url(files)])
