"""Finished runs of any number of classes, without a model: a block's class is a function of its colour.

run = classed_run(folder, classes=5)        # folder/run over folder/in.tar: 8 photographs, one turned by EXIF
maps = label_maps(run)                      # key → label map, from the run's masks
"""

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pictures import picture, tar_bytes
from PIL import Image
from stand_in_runs import MANIFEST, ORIENTATION, stand_in_run

from scclip.categories import ignore_value, label_dtype
from scclip.pipeline.annotations.label_map import LabeledImage
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.inputs.decoding import DecodedImage
from scclip.pipeline.run.manifest import ClassRecord
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation

SIZES = [(120, 160), (160, 120), (90, 200), (64, 64), (33, 240), (151, 150), (97, 131), (200, 210)]
BLOCK = 5  # pixels of one class at least
NAMES = ("car", "road & kerb", "tree", "person", "traffic light")


def class_names(classes: int) -> list[str]:
    """Names of a vocabulary, some long."""
    more = (f"{word} {number}" for number in range(1, classes) for word in ("thing", "a rather long name of stuff"))
    return [name for name, _ in zip([*NAMES, *more], range(classes), strict=False)] if classes > 5 else [*NAMES]


def colour_labels(classes: int, shift: int = 0, background: bool = False) -> Callable[[DecodedImage], LabeledImage]:
    """Labels an image by its colours; some are ignored, or with a background none."""
    dtype = label_dtype(classes)

    def label(image: DecodedImage) -> LabeledImage:
        image.seconds = 0.0
        if image.status != Status.OK:
            return LabeledImage.of(image)
        height, width = image.array.shape[:2]
        blocks = image.array[::BLOCK, ::BLOCK].repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
        red, green, blue = np.moveaxis(blocks.astype(int) // (40 if classes < 100 else 24), 2, 0)
        values = red * 49 + green * 7 + blue + shift
        labels = (values % (classes + background) + (not background)).astype(dtype)
        sure = (blocks[..., 0] // 2 + 100).astype(np.uint8)
        rival = (labels % classes + 1).astype(dtype)
        shown = np.where((blocks[..., 1] < 60) & (not background), ignore_value(dtype), labels).astype(dtype)
        maps = Segmentation(shown, labels, sure, rival, sure // 2, 0.5, 0, 1)
        return LabeledImage.labeled(image, SegmentationSummary.of(maps, scores=True))

    return label


def photo(seed: int, turned: bool = False) -> bytes:
    """A photograph, PNG; `turned` is a JPEG that has to be turned to the right."""
    buffer, rgb, exif = io.BytesIO(), picture(seed, SIZES[seed % len(SIZES)]), Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(rgb).save(buffer, *(("JPEG",) if turned else ("PNG",)), **({"exif": exif} if turned else {}))
    return buffer.getvalue()


def classed_run(folder: Path, classes: int = 5, images: int = 8, shift: int = 0, background: bool = False) -> Path:
    """A run over a tar of photographs; odd classes are things."""
    shard = folder / "in.tar"
    if not shard.exists():
        files = {f"street/photo {n}.{'jpg' if n == 5 else 'png'}": photo(n, n == 5) for n in range(images)}
        shard.write_bytes(tar_bytes(files))
    records = tuple(ClassRecord(name=name, thing=n % 2 == 0) for n, name in enumerate(class_names(classes)))
    words = ("sky",) if background else ()
    vocabulary = replace(MANIFEST.vocabulary, name=f"{classes} classes", classes=records, background=words)
    manifest = replace(MANIFEST, vocabulary=vocabulary)
    output = folder / (f"run-{shift}" if shift else "run")
    return stand_in_run(output, [shard], manifest=manifest, label=colour_labels(classes, shift, background))


def label_maps(run: Path) -> dict[str, np.ndarray]:
    """The run's label maps by key."""
    found = {}
    for path in sorted((run / "masks").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".seg.png"):
                    data = tar.extractfile(member).read()  # type: ignore[union-attr]
                    found[member.name.removesuffix(".seg.png")] = np.asarray(Image.open(io.BytesIO(data)))
    return found


def paint(plane: np.ndarray, masks: Sequence[np.ndarray], values: Sequence[int]) -> np.ndarray:
    """Draws masks (H, W) into a plane with their values; no pixel may be in two."""
    for mask, value in zip(masks, values, strict=True):
        assert not plane[mask].any(), "two masks share a pixel"
        plane[mask] = value
    return plane
