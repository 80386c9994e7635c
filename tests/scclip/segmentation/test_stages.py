"""Whoever listens to the segmenter's stages hears all of them, and changes no label."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from towers import SMALL16, clip

from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig


def test_stages_are_heard_one_at_a_time_and_labels_stay() -> None:
    rng, heard, inside = np.random.default_rng(3), list[str](), list[str]()
    image = rng.integers(0, 256, (90, 64, 3), np.uint8)
    text = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((5, SMALL16["output_dim"]), np.float32)))
    config = SegmenterConfig(short_side=64, window=48, stride=24, pamr_steps=1)
    arguments = SelfCalibratedCLIP(clip().visual), text, range(1, 6), config

    @contextlib.contextmanager
    def listen(stage: str) -> Iterator[None]:
        assert not inside
        inside.append(stage)
        yield
        heard.append(inside.pop())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (silent,) = WindowSegmenter(*arguments).segment([image])
    (observed,) = WindowSegmenter(*arguments, stage=listen).segment([image])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        (profiled,) = WindowSegmenter(*arguments, stage=torch.profiler.record_function).segment([image])
    torch.set_num_threads(threads)
    assert list(dict.fromkeys(heard)) == ["resize", "encode", "cosines", "stitch", "score", "maps"]
    assert set(heard) <= {event.key for event in profile.key_averages()}
    for name, value in silent._asdict().items():
        np.testing.assert_array_equal(getattr(observed, name), value, err_msg=name)
        np.testing.assert_array_equal(getattr(profiled, name), value, err_msg=name)
