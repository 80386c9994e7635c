"""Training windows of the demo model: cut once from procedural scenes, kept as arrays on disk.

    build_block(Path("train/pool"), 3)
    pool = WindowPool(Path("train/pool"), blocks=20)
    pixels, truth = pool.draw(np.random.default_rng(0), 32)  # uint8 (32, 112, 112, 3), (32, 112, 112)

Four of five windows come from scenes of many sizes, resized to about the short side at which the segmenter works; one
of five comes from a close-up, a picture that a single category fills.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from scclip.demo.scenes import CLASSES, close_up, scene

WINDOW = 112
BLOCK = 2000
"""Windows in one file."""
WINDOWS_PER_SCENE = 5
CLOSE_UPS = BLOCK // 5
DRAWN_SIDE, RESIZED_SIDE = (160, 300), (220, 261)
"""Short sides, first and last + 1: as drawn, and as resized, around the short side that the model is used at."""
SEEDS_PER_BLOCK = 10_000
TRAINING_SEEDS = range(0, 1_000_000)
DEVELOPMENT_SEEDS = range(1_000_000, 2_000_000)
"""Scenes that settings are chosen on; no report uses them."""
TEST_SEEDS = range(2_000_000, 3_000_000)


def build_block(directory: Path, block: int) -> None:
    """Writes block ``block`` of the pool unless it exists: windows-NNN.npy, (2000, 112, 112, 4) uint8, RGB + truth."""
    path = directory / f"windows-{block:03d}.npy"
    if path.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    windows = np.empty((BLOCK, WINDOW, WINDOW, 4), np.uint8)
    seeds = TRAINING_SEEDS[block * SEEDS_PER_BLOCK : (block + 1) * SEEDS_PER_BLOCK]
    for index in range(0, BLOCK, WINDOWS_PER_SCENE):
        category = 1 + index // WINDOWS_PER_SCENE % len(CLASSES) if index < CLOSE_UPS else None
        part = windows[index : index + WINDOWS_PER_SCENE]
        part[:] = windows_of_scene(seeds[index], len(part), category)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.save(file, windows)
    temporary.replace(path)


class WindowPool:
    """The first ``blocks`` blocks of windows in a directory, memory-mapped."""

    def __init__(self, directory: Path, blocks: int) -> None:
        self._blocks = [np.load(directory / f"windows-{block:03d}.npy", mmap_mode="r") for block in range(blocks)]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws ``count`` windows, about half of them mirrored: uint8 (count, 112, 112, 3) and (count, 112, 112)."""
        picked = rng.integers(len(self._blocks) * BLOCK, size=count)
        windows = np.stack([self._blocks[index // BLOCK][index % BLOCK] for index in picked])
        mirrored = rng.random(count) < 0.5
        windows[mirrored] = windows[mirrored, :, ::-1]
        return windows[..., :3], windows[..., 3]


def windows_of_scene(seed: int, count: int, category: int | None = None) -> np.ndarray:
    """Cuts windows from a scene or a close-up that is drawn at one size and resized: uint8 (count, 112, 112, 4)."""
    rng = np.random.default_rng([seed, 1])
    drawn, wanted = rng.integers(*DRAWN_SIDE), rng.integers(*RESIZED_SIDE)
    sides = np.array([1.0, rng.uniform(1.0, 4 / 3)])[:: rng.choice([-1, 1])]
    size = (int(drawn * sides[0]), int(drawn * sides[1]))
    image, truth = scene(seed, *size) if category is None else close_up(seed, *size, category)
    height, width = (int(wanted * side) for side in sides)
    kernel = Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.HAMMING
    image = np.asarray(Image.fromarray(image).resize((width, height), kernel))
    truth = np.asarray(Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST))
    whole = np.concatenate([image, truth[..., None]], axis=2)
    corners = [(rng.integers(height - WINDOW + 1), rng.integers(width - WINDOW + 1)) for _ in range(count)]
    return np.stack([whole[y : y + WINDOW, x : x + WINDOW] for y, x in corners])
