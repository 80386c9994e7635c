"""Names of an export's files: one for every image, whatever its key, which every file system and reader takes.

    names = FileNames(rules=NameRules(), repeated=repeated_names(files, units, NameRules()))
    names.of(image)     # "a/000001"; "t 12_30~3-17" where another image's name is the same: its unit and index

A plain key is its own name. The names of two images differ in more than case and composition of letters, so that an
export can be copied to macOS and Windows.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, split_name

if TYPE_CHECKING:  # the command line loads this module, too: no heavy libraries
    import numpy as np
    import numpy.typing as npt

    from scclip.pipeline.annotations.schemas import ImageRecord

PART_BYTES = 255  # of a file's or folder's name, on ext4, XFS, APFS and NTFS
NAME_BYTES = 900  # of all folders and the name: keys of S3 have 1,024
MARKED = re.compile(r"~[0-9]+-[0-9]+$")
LABEL_EXTENSIONS = frozenset(["png", "txt", "json"])  # of files that exports write beside pictures


@dataclass(frozen=True, kw_only=True)
class NameRules:
    """What the reader of a format demands of names."""

    extensions: frozenset[str] = IMAGE_EXTENSIONS
    """Those of pictures that it finds; a picture with another one gets that of its content."""
    folders: frozenset[str] = frozenset()
    """Names that mean something to it; a key's folder of such a name gets `_` at its end."""

    def name(self, key: str, file_name: str, room: int = 0) -> str:
        """A key as a relative path without extension; equal for keys that differ in what no file can be called.

        Args:
            key: Key of an image.
            file_name: Its name in the input; the name leaves room for this extension and those of labels.
            room: Bytes that shall be left besides.
        """
        text = key.replace("\\", "_").replace(":", "_")  # no part may mean a root or a drive
        if not text.isprintable():
            text = "".join(character if character.isprintable() else "_" for character in text)
        *folders, last = text.split("/")
        parts = [self.folder(part) for part in folders]
        parts.append(plain_part(cut(last, PART_BYTES - self.extension_bytes(file_name) - room)))
        while len(parts) > 1 and len("/".join(parts).encode()) > NAME_BYTES:
            del parts[0]
        return "/".join(parts)

    def folder(self, part: str) -> str:
        """A folder's name that no file has and that means nothing to the reader."""
        part = plain_part(cut(part, PART_BYTES))
        extension = part.rpartition(".")[2].casefold() if "." in part else ""
        if part in self.folders or extension in IMAGE_EXTENSIONS | LABEL_EXTENSIONS | self.extensions:
            return cut(part, PART_BYTES - 1) + "_"
        return part

    def extension_bytes(self, file_name: str) -> int:
        """Bytes of the longest extension, with its dot, that a file of the image can have."""
        extension = split_name(file_name)[1]
        return 1 + (max(len(extension), 3) if extension in self.extensions else 4)


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The names of the images of an export."""

    rules: NameRules
    repeated: "npt.NDArray[np.uint64] | Sequence[int]" = ()
    """Sorted hashes of the names that several images of the run would have."""

    def of(self, image: "ImageRecord") -> str:
        """An image's name, a relative path without extension, which no other image of the run has."""
        name = self.rules.name(image.key, image.file_name)
        hashed = hash_of(name)
        index = bisect_left(self.repeated, hashed)
        if not MARKED.search(name) and hashed not in self.repeated[index : index + 1]:
            return name
        mark = f"~{image.unit}-{image.index}"  # names without a mark never look like one with it
        return self.rules.name(image.key, image.file_name, len(mark)) + mark


def hash_of(name: str) -> int:
    """64 bits, the same in every process; names that differ in case or composition alone have the same."""
    same = unicodedata.normalize("NFC", name.casefold())
    return int.from_bytes(hashlib.blake2b(same.encode(), digest_size=8).digest(), "big")


def plain_part(part: str) -> str:
    """A part of a path that is neither hidden nor a step up: `..` → `_`, `.cache` → `_cache`."""
    if not part.strip(". "):
        return "_"
    return "_" + part[1:] if part.startswith(".") else part


def cut(text: str, size: int) -> str:
    """The first characters of a text, `size` bytes of UTF-8 at most."""
    return text if len(text) * 4 <= size else text.encode()[:size].decode(errors="ignore")
