"""Which batches a CUDA graph is recorded for; the recording itself is left out, so this needs no GPU."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.cuda import GraphedTower

VARIANTS = (CalibrationConfig(), CalibrationConfig())


def encode_variants(pixels: Tensor, variants: object) -> list[tuple[Tensor, Tensor]]:
    """Two variants whose every row tells its window."""
    features = pixels.flatten(2).transpose(1, 2)
    return [(features, features[:, 0, 0].long()), (-features, features[:, 1, 1].long())]


class Recorder(GraphedTower):
    """A tower that notes the length of the batches it records."""

    def __init__(self) -> None:
        model: Any = SimpleNamespace(device=torch.device("cpu"), encode_variants=encode_variants)
        super().__init__(model, VARIANTS, window=4)
        self.graphs, self.recorded = True, list[int]()

    def _capture(self, pixels: Tensor) -> None:
        self.recorded.append(len(pixels))
        self.graph, self.pixels = object(), pixels.clone()

    def _replay(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        assert len(pixels) <= len(self.pixels)
        return encode_variants(pixels, VARIANTS)


def test_two_threads_do_not_record_in_turn() -> None:
    """One has found that 8 windows are too many, the other sends 8 until its call ends; 5 are no multiple of 2."""
    tower = Recorder()
    for length in (8, 8, 4, 8, 4, 8, 8, 4, 2, 5, 2):
        pixels = 100 * torch.rand(length, 3, 4, 4)
        for result, wanted in zip(tower(pixels), encode_variants(pixels, VARIANTS), strict=True):
            for part, whole in zip(result, wanted, strict=True):
                torch.testing.assert_close(part, whole, rtol=0, atol=0)
    assert tower.recorded == [8, 4, 2]


def test_other_windows_leave_the_graph_alone() -> None:
    tower = Recorder()
    for side in (4, 3, 4):
        tower(torch.zeros(2, 3, 4, side))
    assert tower.recorded == [2]
