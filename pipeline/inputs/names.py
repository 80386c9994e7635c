"""What the name of a file or tar member says: its key, its extension, and whether it is an image.

The key of an image is its name with all folders, up to the last dot (`a/photo.v2.jpg` → `a/photo.v2`). Labels that lie
beside images have one of SIDECAR_TAGS before an image extension (`photo.seg.png`): they are not images, and their key
is what stands before the tag (`photo`). The same holds for names that end in the extension of the ground truth, where
one is asked for. Names that begin with a dot (also macOS's `._photo.jpg`) or have no dot have neither key nor
extension.

>>> split_name("a/photo.seg.png")
('a/photo', 'seg.png')
"""

import functools
import importlib.util
import re
from collections.abc import Iterator

from PIL import features

AVIF = "avif" in features.modules and bool(features.check("avif"))
HEIF = importlib.util.find_spec("pillow_heif") is not None
IMAGE_EXTENSIONS = frozenset(
    ["jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif"]
    + ["avif"] * AVIF  # like those of HEIC only where they can be read: files of no use are counted instead
    + ["heic", "heif"] * HEIF
)
MAX_NAMES = 10**6  # that braces may stand for
SIDECAR_TAGS = frozenset(["seg", "mask", "label", "depth", "argmax", "conf"])
METADATA_EXTENSIONS = frozenset(["json", "txt", "caption", "cls"])


def split_name(name: str, truth: str | None = None) -> tuple[str, str]:
    """Key and extension of a name.

    Args:
        name: path of a file, or name of a tar member.
        truth: extension of the ground truth, such as `seg.png`; it counts as one extension.

    Returns:
        (key, extension in lower case without its dot); ("", "") for a name that has none.
    """
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
    """An extension in lower case without its first dot: `.Seg.PNG` → `seg.png`."""
    return extension.lower().lstrip(".")


def is_image(name: str, truth: str | None = None) -> bool:
    """True for the name of an image that is to be labeled, False for ground truth with extension `truth`."""
    extension = split_name(name, truth)[1]
    return extension in IMAGE_EXTENSIONS and not (truth and extension == normalize_extension(truth))


_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def expand_braces(name: str) -> Iterator[str]:
    """The names that braces stand for, as WebDataset writes them: `{00000..00009}.tar`, `{a,b}/c.png`.

    Raises:
        ValueError: they are more than MAX_NAMES.
    """
    match = _BRACES.search(name)
    if not match:
        yield name
        return
    first, last, words = match.groups()
    if words is None:
        if abs(int(last) - int(first)) >= MAX_NAMES:
            raise ValueError(f"{match[0]} stands for more than {MAX_NAMES:,} names")
        step = 1 if int(first) <= int(last) else -1
        choices = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + step, step)]
    else:
        choices = words.split(",")
    for choice in choices:
        yield from expand_braces(name[: match.start()] + choice + name[match.end() :])
