"""Adds up what a run holds, from the sums that every images/ file carries; writes summary.json.

totals = sum(unit_totals(files, files.finished()).values(), Totals())
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scclip.metrics import IntArray
from scclip.pipeline.annotations.schemas import Status, labeled_rows
from scclip.pipeline.run.files import TOTALS_KEY, RunFiles
from scclip.pipeline.storage.files import info, join, open_stream, replace
from scclip.pipeline.storage.threads import map_threads

HIGHEST = 255  # a confidence of 1, quantised


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Integer sums over a run's images, additive with `+` in any order; `Totals()` is zero."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Images by status."""
    pixels: int = 0
    """Pixels of labeled images; the next four fields also count labeled images only."""
    background_pixels: int = 0
    ignored_pixels: int = 0
    windows: int = 0
    anomaly_tokens: int = 0
    class_images: Counter[int] = field(default_factory=Counter)
    """Images with the category; their sum is the number of segments."""
    class_pixels: Counter[int] = field(default_factory=Counter)
    class_confidence: Counter[int] = field(default_factory=Counter)
    """Sum of the pixels' quantised confidence: divided by 255 and by the pixels it is the class's mean."""

    @property
    def read(self) -> int:
        """Images read; those labeled and those failed add up to it."""
        return sum(self.statuses.values())

    @property
    def labeled(self) -> int:
        """Images with status "ok"."""
        return self.statuses[Status.OK]

    @property
    def failed(self) -> int:
        """Images with any other status."""
        return self.read - self.labeled

    @property
    def segments(self) -> int:
        """Rows of segments/."""
        return sum(self.class_images.values())

    @staticmethod
    def from_json(text: str | bytes) -> "Totals":
        """Reads the totals that `json.dumps(vars(totals))` wrote."""
        values = json.loads(text)
        for name, value in values.items():
            if isinstance(value, dict):
                values[name] = Counter({key if name == "statuses" else int(key): count for key, count in value.items()})
        return Totals(**values)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def totals(images: pa.Table, segments: pa.Table) -> Totals:
    """Adds up tables with the columns of IMAGES_SCHEMA and SEGMENTS_SCHEMA."""
    labeled = labeled_rows(images)
    size = _integers(labeled["width"]) * _integers(labeled["height"])
    category, area = _integers(segments["category_id"]), _integers(segments["area"])
    return Totals(
        statuses=Counter(images["status"].to_pylist()),
        pixels=int(size.sum()),
        background_pixels=int(_numerators(labeled["background_fraction"], size).sum()),
        ignored_pixels=int(_numerators(labeled["ignored_fraction"], size).sum()),
        windows=int(_integers(labeled["windows"]).sum()),
        anomaly_tokens=int(_integers(labeled["anomaly_tokens"]).sum()),
        class_images=_by_category(category, np.ones(category.size, np.int64)),
        class_pixels=_by_category(category, area),
        class_confidence=_by_category(category, _numerators(segments["mean_confidence"], area * HIGHEST)),
    )


def _integers(column: pa.ChunkedArray) -> IntArray:
    return column.to_numpy().astype(np.int64)


def _numerators(fractions: pa.ChunkedArray, denominators: IntArray) -> IntArray:
    """Returns the integers that the fractions were made of; exact below 2^51."""
    return np.rint(fractions.to_numpy() * denominators).astype(np.int64)


def _by_category(category: IntArray, values: IntArray) -> Counter[int]:
    sums = np.zeros(int(category.max(initial=0)) + 1, np.int64)
    np.add.at(sums, category, values)
    return Counter({int(index): int(sums[index]) for index in np.flatnonzero(sums)})


FOOTER_BLOCK = 2**16  # bytes a request: enough for a Parquet footer with its metadata


def unit_totals(files: RunFiles, units: Iterable[int]) -> dict[int, Totals]:
    """Reads the totals of finished units from the metadata of their images/ files."""
    return dict(map_threads(lambda unit: (unit, Totals.from_json(unit_metadata(files, unit)[TOTALS_KEY])), units))


def unit_metadata(files: RunFiles, unit: int) -> Mapping[bytes, bytes]:
    """Reads the metadata of a finished unit's images/ file, without its rows."""
    url = files.unit_file("images", unit)
    with open_stream(url, size=info(url).size, block=FOOTER_BLOCK) as stream:
        return pq.read_schema(stream).metadata or {}


class ClassSummary(TypedDict):
    """One class in summary.json."""

    category_id: int
    name: str
    images: int
    pixels: int
    mean_confidence: float | None


class Summary(TypedDict, total=False):
    """The content of summary.json; the last six keys are those of a run that labeled something."""

    images_read: int
    images_labeled: int
    images_failed: int
    segments: int
    statuses: dict[str, int]
    windows: int
    anomaly_tokens: int
    pixels: int
    background_pixels: int
    ignored_pixels: int
    seconds: float
    images_labeled_this_time: int
    images_per_second: float
    classes: list[ClassSummary]
    units: int
    worker_deaths: dict[str, int]
    stages: dict[str, dict[str, float]]
    bottleneck: str | None
    storage_retries: int
    passed_over: dict[str, dict[str, object]]
    """Kind → count and example of the files of the input that are neither shards nor images."""


def summarise(totals: Totals, names: Mapping[int, str], seconds: float, labeled_now: int) -> Summary:
    """Returns the totals as summary.json holds them.

    Args:
        totals: of the whole run.
        names: category index → name.
        seconds: that this invocation took; the rate is that of this invocation.
        labeled_now: images that this invocation labeled.
    """
    return {
        "images_read": totals.read,
        "images_labeled": totals.labeled,
        "images_failed": totals.failed,
        "segments": totals.segments,
        "statuses": dict(sorted(totals.statuses.items())),
        "windows": totals.windows,
        "anomaly_tokens": totals.anomaly_tokens,
        "pixels": totals.pixels,
        "background_pixels": totals.background_pixels,
        "ignored_pixels": totals.ignored_pixels,
        "seconds": round(seconds, 3),
        "images_labeled_this_time": labeled_now,
        "images_per_second": round(labeled_now / seconds, 3) if seconds > 0 else 0.0,
        "classes": [
            {
                "category_id": category,
                "name": name,
                "images": totals.class_images[category],
                "pixels": totals.class_pixels[category],
                "mean_confidence": mean_confidence(totals, category),
            }
            for category, name in names.items()
            if category
        ],
    }


def mean_confidence(totals: Totals, category: int) -> float | None:
    """Returns the mean confidence of a category's pixels, 0 to 1; None where it has no pixels."""
    pixels = totals.class_pixels[category]
    return totals.class_confidence[category] / HIGHEST / pixels if pixels else None


def write_summary(files: RunFiles, summary: Summary) -> None:
    """Replaces summary.json as a whole."""
    replace(join(files.output, "summary.json"), json.dumps(summary, indent=1, ensure_ascii=True).encode())
