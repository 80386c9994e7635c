"""What a file's or tar member's name says: its key, its extension, and whether it is an image.

The rule: an image's key is its name, path prefix included, up to the last dot (`a/photo.v2.jpg` → `a/photo.v2`).
Labels that lie beside images carry one of SIDECAR_TAGS before an image extension (`photo.seg.png`) and are no images;
their key is what comes before (`photo`). So is whatever ends in the extension that is asked for as ground truth.
Names that begin with a dot (also macOS's `._photo.jpg`) or have no dot are neither.

>>> split_name("a/photo.seg.png")
('a/photo', 'seg.png')
"""

import functools

IMAGE_EXTENSIONS = frozenset(["jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif"])
SIDECAR_TAGS = frozenset(["seg", "mask", "label", "depth", "argmax", "conf"])
METADATA_EXTENSIONS = frozenset(["json", "txt", "caption", "cls"])
SHARD_EXTENSIONS = {".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".parquet": "parquet", ".pq": "parquet"}


def split_name(name: str, truth: str | None = None) -> tuple[str, str]:
    """(key, extension in lower case without its dot); ("", "") for a name that has none."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.rpartition(".")
    if not stem or base.startswith("."):
        return "", ""
    ending = "." + normalize_extension(truth) if truth else ""
    if ending and base.lower().endswith(ending) and len(base) > len(ending):
        return folder + slash + base[: -len(ending)], ending[1:]
    front, _, tag = stem.rpartition(".")
    if front and tag.lower() in SIDECAR_TAGS and extension.lower() in IMAGE_EXTENSIONS:
        stem, extension = front, f"{tag}.{extension}"
    return folder + slash + stem, extension.lower()


@functools.cache
def normalize_extension(extension: str) -> str:
    """`.Seg.PNG` → `seg.png`."""
    return extension.lower().lstrip(".")


def is_image(name: str, truth: str | None = None) -> bool:
    """True for the name of an image that is to be labeled."""
    extension = split_name(name, truth)[1]
    return extension in IMAGE_EXTENSIONS and not (truth and extension == normalize_extension(truth))


def shard_kind(name: str) -> str | None:
    """ "tar" or "parquet" by a file's name, None for anything else."""
    lower = name.lower()
    return next((kind for ending, kind in SHARD_EXTENSIONS.items() if lower.endswith(ending)), None)


def sample_base(key: str) -> str:
    """WebDataset's own key: up to the first dot of the last path component."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]
