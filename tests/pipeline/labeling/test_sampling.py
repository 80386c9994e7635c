"""The pace that a dry run measures is that of the run: on a GPU full chunks, several at a time."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from scclip.pipeline.inputs.chunks import Chunk, ChunkLimits
from scclip.pipeline.labeling.sampling import Sample, extrapolate, label_chunks

SIDE = 10  # pixels


class StandIn:
    """A labeler that takes 5 ms a call and 1 ms an image, for one caller at a time; notes the chunks' lengths."""

    def __init__(self) -> None:
        self.lengths, self.device = list[int](), threading.Lock()

    def start(self) -> "StandIn":
        return self

    def __call__(self, chunk: Chunk) -> Chunk:
        with self.device:
            self.lengths.append(len(chunk.images))
            time.sleep(0.005 + 0.001 * len(chunk.images))
        return chunk


def chunk(number: int, images: int) -> Chunk:
    rgb = [np.zeros((SIDE, SIDE, 3), np.uint8).tobytes()] * images
    return Chunk(0, number, pa.table({"rgb": pa.array(rgb, pa.large_binary())}))


@pytest.mark.parametrize(
    ("calls", "limits", "lengths"),
    [
        (1, ChunkLimits(images=64), []),
        (2, ChunkLimits(images=64), [60, 60]),
        (2, ChunkLimits(images=64, pixels=26 * SIDE**2), [24, 24]),
        (2, ChunkLimits(images=64, pixels=11 * SIDE**2), [8, 4]),
        (3, ChunkLimits(images=8), [8, 4]),
    ],
)
def test_chunks_are_full_where_calls_overlap(calls: int, limits: ChunkLimits, lengths: list[int]) -> None:
    chunks, labeler = [chunk(0, 8), chunk(1, 4)], StandIn()
    labeled, seconds = label_chunks(labeler, chunks, calls, limits)
    assert labeled == chunks
    assert labeler.lengths[:3] == [8, 8, 4] and sorted(labeler.lengths[3:], reverse=True) == lengths
    least = sum(0.005 + 0.001 * length for length in lengths or (8, 4)) * 12 / sum(lengths or (8, 4))
    assert least <= seconds


def test_hours_follow_from_the_rate() -> None:
    sample = Sample(images=30, labeled=30, windows=180, cpu_seconds=1.5, label_seconds=0.5, output_bytes=900)
    assert sample.rate == 60
    estimate = extrapolate(sample, 216_000, sample.rate)
    assert (estimate.actor_hours, estimate.cpu_hours, estimate.windows) == (1, 3, 1_296_000)
    assert extrapolate(sample, 216_000, None).actor_hours is None
