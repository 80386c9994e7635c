"""Finished runs without a model: pictures that carry a number, labeled by their brightness, in this process.

    write_tar(folder / "a.tar", [("t 12:30.png", 1), ("t 12_30.png", 2)])
    stand_in_run(folder / "run", [folder / "a.tar"])      # what `scclip label` writes, in milliseconds
    number(read_picture(data)), number(labels == BRIGHT)  # 1, 1: picture and label belong together

A picture is 4 × 4 cells, black or white, which are the bits of its number; a label map says which cells are white. So
every picture and every label map that comes out of an export says whose it is, whatever its name has become.
"""

import contextlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scclip.pipeline.annotations import coco
from scclip.pipeline.annotations.label_map import LABELED_SCHEMA, LabeledImage
from scclip.pipeline.annotations.schemas import Status, records_of, table_of
from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.decoding import DecodeConfig, DecodedImage, decode_chunk
from scclip.pipeline.inputs.names import AVIF
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.run.commit import CommitOptions, commit_chunk, finish_unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import write_generation
from scclip.pipeline.run.manifest import ClassRecord, ModelRecord, OptionsRecord, RunManifest, VocabularyRecord
from scclip.segmentation.types import Segmentation, SegmenterConfig

CELLS, CELL = 4, 4  # a side's cells, a cell's pixels: JPEG and GIF keep them
DARK, BRIGHT = 1, 2  # categories
KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP"}
KINDS |= {"tif": "TIFF", "tiff": "TIFF"} | ({"avif": "AVIF"} if AVIF else {})
ORIENTATION = 0x0112
MANIFEST = RunManifest(
    model=ModelRecord(
        model="brightness",
        method="scclip",
        attention=None,
        without=(),
        precision="float32",
        weights_sha256="0",
        quick_gelu=False,
        calibration={},
    ),
    vocabulary=VocabularyRecord(
        name="brightness",
        background=(),
        classes=(ClassRecord(name="dark"), ClassRecord(name="bright", thing=True)),
        templates=("{}",),
        logit_scale=40,
        threshold=0,
        area_threshold=0,
        sha256="0",
    ),
    options=OptionsRecord(exif="apply", limit=None, image_ids="plan", masks="png", save_confidence=True),
    segmentation=SegmenterConfig(),
    chunk_limits=ChunkLimits(),
    versions={"scclip-pipeline": "0"},
)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder in memory, where there is one: exports write and flush many small files."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def numbered(names: Sequence[str], first: int = 1) -> list[tuple[str, int]]:
    """Names with the numbers of their pictures."""
    return [(name, place) for place, name in enumerate(names, first)]


def cells(value: int) -> np.ndarray:
    """bool (16, 16): the bits of a number below 65,536."""
    bits = np.array([value >> place & 1 for place in range(CELLS * CELLS)], bool).reshape(CELLS, CELLS)
    return np.kron(bits, np.ones((CELL, CELL), bool))


def number(white: np.ndarray) -> int:
    """The number in a mask of any size, by the middle of every cell."""
    rows, columns = (((np.arange(CELLS) + 0.5) * side / CELLS).astype(int) for side in white.shape)
    bits = white[np.ix_(rows, columns)].ravel()
    return sum(1 << place for place, bit in enumerate(bits.tolist()) if bit)


def picture_bytes(value: int, extension: str = "png", orientation: int | None = None) -> bytes:
    """The picture of a number, as a file of the kind that an extension means."""
    buffer, options = io.BytesIO(), dict[str, Any]()
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    image = Image.fromarray(np.where(cells(value), 255, 0).astype(np.uint8)).convert("RGB")
    image.save(buffer, KINDS[extension.lower()], **options)
    return buffer.getvalue()


def read_picture(data: bytes) -> np.ndarray:
    """The white cells of a picture's file as most loaders see it: its pixels as stored."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127


def write_tar(path: Path, members: Iterable[tuple[str, int]]) -> Path:
    """A tar of pictures by member name, in any order and with any repetition."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, value in members:
            member, data = tarfile.TarInfo(name), picture_bytes(value, name.rpartition(".")[2])
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, keys: Sequence[str | None], values: Sequence[int]) -> Path:
    """A Parquet file of PNG pictures by key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = pa.array([picture_bytes(value) for value in values], pa.binary())
    pq.write_table(pa.table({"key": pa.array(keys, pa.string()), "image": pictures}), path)
    return path


def write_folder(path: Path, files: Iterable[tuple[str, int]]) -> Path:
    """Pictures by path below a folder; a name may hold surrogates, which stand for bytes that are no UTF-8."""
    for name, value in files:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture_bytes(value, name.rpartition(".")[2]))
    return path


def brightness_labeled(image: DecodedImage) -> LabeledImage:
    """An image labeled by its pixels alone: white is BRIGHT, black is DARK; one that was not decoded has no labels."""
    image.seconds = 0.0
    if image.status != Status.OK:
        return LabeledImage.of(image)
    labels = np.where(image.array.mean(axis=2) > 127, BRIGHT, DARK).astype(np.uint8)
    sure = np.full_like(labels, 200)
    return LabeledImage.labeled(image, Segmentation(labels, labels, sure, 3 - labels, sure, 0.5, 0, 1))


def stand_in_run(
    output: Path,
    inputs: Sequence[Path | str],
    exif: str = "apply",
    manifest: RunManifest | None = None,
    label: Callable[[DecodedImage], LabeledImage] | None = None,
) -> Path:
    """A finished run over these inputs with masks and confidence, by the run's own reading and writing."""
    files, manifest, label = RunFiles(str(output)), manifest or MANIFEST, label or brightness_labeled
    manifest = replace(manifest, options=replace(manifest.options, exif=exif))
    units = write_generation(files, [], plan_units([str(name) for name in inputs]), lambda known: [])
    Path(output, "run.json").write_text(json.dumps(manifest.to_json()))
    options = CommitOptions(masks=True, save_confidence=True, dtype=manifest.categories.dtype)
    categories, info = coco.categories(manifest.categories), manifest.document_info()
    for unit in units:
        for chunk in read_unit(unit, manifest.chunk_limits):
            if chunk.last:
                finish_unit(unit.number, chunk.number, files, categories, info)
            else:
                decoded = decode_chunk(chunk, DecodeConfig(exif=exif))
                images = [label(image) for image in records_of(decoded.images, DecodedImage)]
                commit_chunk(decoded.with_images(table_of(images, LABELED_SCHEMA)), files, options)
    return output
