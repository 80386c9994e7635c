"""Labels from the file against the plain method on what OpenCV decodes and resizes, on photographs and street scenes.

The weights are pseudo-random. The queries point along the differences between the picture's patches: at least ten of
them win somewhere, and no two are alike, which would leave the choice between them to rounding.
"""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from towers import SMALL16, clip

from scclip import reference
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import CLIP_MEAN, CLIP_STD, SegmenterConfig
from scclip.segmentation.windows import resized_side

CONFIG = SegmenterConfig()


def pictures(shared: Path) -> dict[str, bytes]:
    """The files of the photographs and of the street scenes by name."""
    files = {path.name: path.read_bytes() for path in sorted((shared / "data/photos").glob("*.jpg"))}
    with tarfile.open(shared / "data/camvid-24.tar") as shard:
        for member in shard:
            content = shard.extractfile(member)
            if content and member.name.endswith(".png") and not member.name.endswith(".seg.png"):
                files[member.name] = content.read()
    return files


def opencv_decode(file: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1])


def opencv_resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(H, W, 3) uint8 → (3, h, w) uint8."""
    resized = cv2.resize(image.numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1)


def queries_of(image: np.ndarray, model: SelfCalibratedCLIP, count: int) -> np.ndarray:
    """(count, E) of unit norm: directions in which patches of two windows in the corners differ from their mean.

    Sixteen are those of single patches, where they win; the others are drawn.
    """
    side = resized_side(*image.shape[:2], CONFIG.short_side, CONFIG.long_side, model.patch_size)
    small = opencv_resize(torch.from_numpy(image), side).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    corners = torch.stack([small[:, :224, :224], small[:, -224:, -224:]])
    patches = F.normalize(model.encode_patches((corners - mean) / std).flatten(0, 1), dim=-1)
    middle = F.normalize(patches.mean(0), dim=0)
    patches = patches - (patches @ middle)[:, None] * middle
    directions = F.normalize(patches, dim=-1)
    drawn = torch.randn(4000, len(patches), generator=torch.Generator().manual_seed(count)) @ patches
    few, drawn = count < 100, F.normalize(drawn, dim=-1)
    chosen = torch.cat([directions[:1], drawn[:5]]) if few else directions[:1]
    while len(chosen) < count:  # one after the other, what is least like the ones before
        pool = directions if few or len(chosen) < 16 else drawn
        chosen = torch.cat([chosen, pool[(pool @ chosen.T).amax(1).argmin()][None]])
    return np.asarray(chosen)


def check(name: str, file: bytes, queries: int) -> None:
    """Labels the picture both ways; prints and compares the share of equal pixels."""
    visual, calibration = clip(SMALL16).visual, CalibrationConfig.published(SMALL16["layers"])
    model, image, categories = SelfCalibratedCLIP(visual), opencv_decode(file), range(1, queries + 1)
    text = queries_of(image, model, queries)
    plain, _ = reference.NaiveSegmenter(visual, calibration, text, categories, CONFIG).label(image)
    ours = WindowSegmenter(model, text, categories, CONFIG).segment([decode_image(file, DecodeConfig()).rgb])[0].labels
    equal, classes = float((ours == plain).mean()), len(np.unique(plain))
    print(f"{name}: {queries} queries, {classes} classes, {equal:.4%} of {plain.size:,} pixels equal")
    assert classes >= 10
    assert equal >= 0.9999


@pytest.fixture(autouse=True)
def with_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain method resizes by OpenCV instead of by the product's own resize."""
    monkeypatch.setattr(reference, "resize", opencv_resize)


@pytest.mark.parametrize("queries", [21, 171])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_labels_equal_the_plain_method_with_opencv(kind: str, queries: int, shared: Path) -> None:
    files = [item for item in pictures(shared).items() if item[0].endswith(kind)]
    for name, file in sorted(files, key=lambda item: len(item[1]))[:3]:
        check(name, file, queries)


@pytest.mark.fidelity
@pytest.mark.parametrize("queries", [21, 171])
def test_labels_of_every_picture_equal_the_plain_method_with_opencv(queries: int, shared: Path) -> None:
    files = pictures(shared)
    assert len(files) == 36
    for name, file in files.items():
        check(name, file, queries)
