"""Small pictures and shards for tests: smooth random scenes, so that label maps have shapes and not noise."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

SIZES = [(120, 160), (160, 120), (90, 200), (64, 64), (33, 240), (150, 151), (16, 16)]
OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13
YCBCR = pytest.param(
    "YCbCr", marks=pytest.mark.skipif(OLD_PILLOW, reason="Pillow before 13 writes such TIFFs, but cannot read them")
)


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB (H, W, 3): coarse colours, upsampled, with a little noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + random.integers(-12, 13, (*size, 3)), 0, 255).astype(np.uint8)


def encoded(seed: int, size: tuple[int, int] | None = None, kind: str = "PNG") -> bytes:
    """The picture of a seed as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, size or SIZES[seed % len(SIZES)])).save(buffer, kind)
    return buffer.getvalue()


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    """A plain tar of these members, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_shards(folder: Path, count: int, images: int) -> Path:
    """`count` tars of so many pictures each, all different, in a folder; returns it."""
    for number in range(count):
        write_shard(folder / f"{number}.tar", range(images * number, images * number + images))
    return folder


def write_shard(path: Path, seeds: range, extra: Mapping[str, bytes] | None = None) -> Path:
    """A WebDataset tar of pictures with a JSON sidecar each; `extra` members come last."""
    members: dict[str, bytes] = {}
    for seed in seeds:
        members[f"{seed:06d}.png"] = encoded(seed)
        members[f"{seed:06d}.json"] = json.dumps({"seed": seed}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members | dict(extra or {})))
    return path
