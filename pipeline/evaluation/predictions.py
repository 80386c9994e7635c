"""Labels of an earlier run as predictions: what `scclip evaluate --labels` puts in the model's place.

    spec = find_labels(RunFiles("labels"), truth_units)
    predicted = spec.start()(decoded)     # the same chunk, its images as PredictedImage

An image of the truth's shards finds its labels by key: in the unit of the same shard where the run was made from these
shards, else in the whole run. There its key may also be the name that the run's image has in an exported tar.
"""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scclip.categories import Categories
from scclip.pipeline.annotations.label_map import label_map
from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA, ImageRecord, Status, records_of, table_of
from scclip.pipeline.evaluation.scoring import PREDICTED_SCHEMA, PredictedImage
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.decoding import DecodedImage
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.watch import FREE, Watch
from scclip.pipeline.run.files import RunFiles, segments_by_image
from scclip.pipeline.run.fingerprint import read_run
from scclip.pipeline.run.generations import read_plan
from scclip.pipeline.run.names import tar_names
from scclip.pipeline.storage.threads import map_threads

COLUMNS = [name for name in IMAGES_SCHEMA.names if name not in ("categories", "metadata")]  # those that may be long
UNITS_KEPT = 4  # of the run, in a process's memory


@dataclass(frozen=True, kw_only=True)
class LabelsSpec:
    """A run, and where it holds the labels of the truth's images."""

    run: RunFiles
    """The labeling run."""
    categories: Categories
    """Of the run."""
    same_shard: Mapping[int, Sequence[int]]
    """Unit of the truth → units of the run that were read from the same shard."""
    keys: npt.NDArray[np.uint64]
    """Sorted hashes of the keys, and names in exported tars, of the run's images; none where no unit needs them.

    Arrays: the actors of a node share them, however many images the run has.
    """
    units: npt.NDArray[np.int32]
    """The unit of the run that has each of `keys`."""

    def start(self) -> "LabelsReader":
        """What an actor works with."""
        return LabelsReader(self)


def find_labels(run: RunFiles, truth: Sequence[Unit]) -> LabelsSpec:
    """Where a run holds the labels for these units; reads its keys only where the shards are not its own."""
    by_url: dict[str, list[int]] = defaultdict(list)
    plan = read_plan(run)
    for unit in plan:
        if not unit.files:
            by_url[unit.url].append(unit.number)
    same = {unit.number: by_url[unit.url] for unit in truth if not unit.files and unit.url in by_url}
    keys, numbers = hashed_keys(run, plan if len(same) < len(truth) else [])
    return LabelsSpec(run=run, categories=read_run(run).categories, same_shard=same, keys=keys, units=numbers)


def hashed_keys(run: RunFiles, plan: Sequence[Unit]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Sorted hashes of the keys, and names in exported tars, of these units, and the unit of each."""

    def hashes(unit: Unit) -> npt.NDArray[np.uint64]:
        table = run.table("images", unit.number, ["key", "index", "status"])
        return np.array([hash_of(key) for key in {*table["key"].to_pylist(), *tar_names(table).values()}], np.uint64)

    by_unit = [np.empty(0, np.uint64), *map_threads(hashes, plan)]
    keys, numbers = np.concatenate(by_unit), np.array([0, *(unit.number for unit in plan)], np.int32)
    order = np.argsort(keys, kind="stable")
    return keys[order], np.repeat(numbers, [len(own) for own in by_unit])[order]


def hash_of(key: str) -> int:
    """64 bits, the same in every process; that two keys have the same does no harm: their units are looked through."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class LabelsReader:
    """Looks labels up, chunk by chunk."""

    def __init__(self, spec: LabelsSpec) -> None:
        self.spec = spec
        self.images = functools.lru_cache(UNITS_KEPT)(self.load_images)
        self.segments = functools.lru_cache(UNITS_KEPT)(functools.partial(segments_by_image, spec.run))

    def __call__(self, chunk: Chunk, watch: Watch = FREE) -> Chunk:
        """A decoded chunk → the run's labels of its images; an image that has none becomes a row that says so."""
        images = [self.predicted(image) for image in records_of(chunk.images, DecodedImage)]
        return chunk.with_images(table_of(images, PREDICTED_SCHEMA))

    def predicted(self, image: DecodedImage) -> PredictedImage:
        """An image with the run's labels, or why it has none."""
        predicted = PredictedImage.of(image, truth=image.truth)
        if image.status == Status.OK:
            matches = self.matches(image)
            if len(matches) == 1:
                self.add_labels(predicted, matches[0])
            else:
                what = f"{len(matches)} images of this key" if matches else "no image of this key"
                predicted.status, predicted.error = Status.NOT_LABELED, f"{self.spec.run.output} holds {what}"
        return predicted

    def add_labels(self, image: PredictedImage, labeled: ImageRecord) -> None:
        """Gives an image the labels of its counterpart in the run, or the reason why that has none of use."""
        if labeled.status != Status.OK:
            image.status, image.error = labeled.status, labeled.error
        elif labeled.shape != image.shape:
            sizes = f"{labeled.width} × {labeled.height} pixels, the image {image.width} × {image.height}"
            image.status, image.error = Status.LABEL_SIZE, f"its labels are {sizes}"
        else:
            segments = self.segments(labeled.unit)[labeled.image_id]
            labels = label_map(segments, *labeled.shape, self.spec.categories)
            image.predictions = [np.ascontiguousarray(labels).tobytes()]
            image.windows, image.anomaly_tokens = labeled.windows, labeled.anomaly_tokens

    def matches(self, image: ImageRecord) -> list[ImageRecord]:
        """The run's images that this one can be; where several have its key, the one of the same index."""
        same = self.spec.same_shard.get(image.unit)
        units = dict.fromkeys(same or self.units_of(image.key))
        matches = [match for unit in units for match in self.images(unit).get(image.key, [])]
        return [match for match in matches if match.index == image.index] if same and len(matches) > 1 else matches

    def units_of(self, key: str) -> list[int]:
        """The units of the run that have an image of this key, and hardly ever others."""
        hashed = np.uint64(hash_of(key))
        first, stop = (int(np.searchsorted(self.spec.keys, hashed, side)) for side in ("left", "right"))
        return self.spec.units[first:stop].tolist()

    def load_images(self, unit: int) -> dict[str, list[ImageRecord]]:
        """A unit's images by key, and by their names in an exported tar."""
        images: dict[str, list[ImageRecord]] = defaultdict(list)
        table = self.spec.run.table("images", unit, COLUMNS)
        names = tar_names(table)
        for image in records_of(table, ImageRecord):
            for key in {image.key, names.get(image.index, image.key)}:
                images[key].append(image)
        return images
