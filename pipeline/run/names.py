"""Names of images in tars: those of masks/ and of exported samples.

tar_names(images)     # index → name: 0 → "a/000001", 1 → "10_22_33" of the key 10.22.33, 2 → "dog~2", 3 → "dog~3"

WebDataset joins all members whose names are equal up to the first dot after the last slash into one sample. So a name
here has no such dot, and no two images of a tar have the same.
"""

import re
from collections import Counter

import pyarrow as pa

from scclip.pipeline.annotations.schemas import labeled_rows
from scclip.pipeline.inputs.readers.tar import name_inside

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a newline ends WebDataset's pattern of a name
SKIPPED = re.compile(r"__[^/]*__/")  # a first folder that WebDataset takes for metadata
MARKED = re.compile(r"~[0-9]+$")


def tar_names(images: pa.Table) -> dict[int, str]:
    """The names of a unit's labeled images in a tar, without extension, by index; no two are equal.

    An image is marked with its index (`dog~2`) where its name is another one's as well, or looks marked already. So
    names without a mark differ from each other and from all that have one.

    Args:
        images: Columns key, index and status of all images of the unit, so that names do not depend on a selection.
    """
    labeled = labeled_rows(images.select(["key", "index", "status"]))
    names = dict(zip(labeled["index"].to_pylist(), map(tar_name, labeled["key"].to_pylist()), strict=True))
    counts = Counter(names.values())
    return {
        index: f"{name}~{index}" if counts[name] > 1 or MARKED.search(name) else name for index, name in names.items()
    }


def tar_name(key: str) -> str:
    """A key as WebDataset reads it back: `_` for dots of its last part, control characters and parts like `..`."""
    folder, slash, name = name_inside(CONTROL.sub("_", key)).rpartition("/")
    return ("-" if SKIPPED.match(key) else "") + folder + slash + (name.replace(".", "_") or "_")
