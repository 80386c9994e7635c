"""Measures the mIoU of plain CLIP, MaskCLIP and SC-CLIP with the demo model, on scenes that it has not seen.

    python -m scclip.demo.evaluate --images 300

The scenes have seeds of their own (``pool.TEST_SEEDS``) and sizes and aspect ratios that training never used.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scclip.demo.scenes import CLASSES, scene
from scclip.demo.training.pool import DEVELOPMENT_SEEDS, TEST_SEEDS
from scclip.encoder.checkpoints import LoadedCLIP, find_weights, load_clip, resolve_precision
from scclip.encoder.config import ModelConfig
from scclip.encoder.tower import DTYPES
from scclip.metrics import confusion, iou
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary

SIZES = {
    "test": ((240, 426), (480, 270), (300, 450), (420, 260), (200, 500), (330, 500)),
    "development": ((256, 256), (240, 320), (320, 240), (192, 256)),
}
"""Heights and widths; training windows come from pictures of 1:1 to 4:3, so every test size is new to the model."""
SEEDS = {"test": TEST_SEEDS, "development": DEVELOPMENT_SEEDS}
METHODS = ("clip", "maskclip", "scclip")


def scenes(split: str, images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first ``images`` scenes of a split: uint8 (H, W, 3) and uint8 (H, W) categories; sizes take turns."""
    sizes = SIZES[split]
    for index, seed in enumerate(SEEDS[split][:images]):
        yield scene(seed, *sizes[index % len(sizes)])


def build_segmenter(clip: LoadedCLIP, vocabulary: Vocabulary, precision: str = "float32") -> WindowSegmenter:
    """A segmenter of a loaded model with its own windows, on the CPU."""
    text = encode_queries(clip.model, clip.tokenizer, vocabulary)
    scale, windows = vocabulary.logit_scale, clip.source.windows()
    config = SegmenterConfig(mean=clip.mean, std=clip.std, logit_scale=scale, **windows)
    return WindowSegmenter(clip.visual().to(DTYPES[precision]), text, vocabulary.query_category, config)


def class_iou(
    segmenter: WindowSegmenter, pictures: Iterable[tuple[np.ndarray, np.ndarray]], batch: int = 8
) -> np.ndarray:
    """IoU of each class over all pixels, float64 (14,); NaN for a class that neither truth nor prediction has."""
    categories, waiting = len(CLASSES) + 1, list(pictures)
    total = np.zeros((categories, categories + 1), np.int64)
    for start in range(0, len(waiting), batch):
        images, truths = zip(*waiting[start : start + batch], strict=True)
        for result, truth in zip(segmenter.segment(images), truths, strict=True):
            total += confusion(truth, result.labels, categories)
    return iou(total)[1:]


def measure(config: ModelConfig, split: str, images: int) -> np.ndarray:
    """IoU of each class for one model and method over the first scenes of a split, float64 (14,)."""
    clip = load_clip(find_weights(config))
    segmenter = build_segmenter(clip, Vocabulary.load("demo"), resolve_precision(config.precision, cuda=False))
    return class_iou(segmenter, scenes(split, images))


def table(columns: Sequence[tuple[str, np.ndarray]]) -> str:
    """Markdown table: one row per class and the mean, one column per method."""
    lines = ["| class | " + " | ".join(name for name, _ in columns) + " |", "| --- |" + " --- |" * len(columns)]
    rows = [("**mean**", [np.nanmean(iou) for _, iou in columns])]
    rows += [(name, [iou[index] for _, iou in columns]) for index, name in enumerate(CLASSES)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(f"{v:.3f}" for v in values) + " |" for name, values in rows])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the demo model on unseen scenes.")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--split", choices=SIZES, default="test")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--model", default="demo", help="demo or local-dir:PATH")
    parser.add_argument("--calibration", help="YAML file instead of the model's own")
    parser.add_argument("--precision", choices=("auto", *DTYPES), default="float32")
    options = parser.parse_args()
    given = {"model": options.model, "calibration": options.calibration, "precision": options.precision}
    configs = [ModelConfig(method=method, **given) for method in options.methods]
    print(table([(config.method, measure(config, options.split, options.images)) for config in configs]))


if __name__ == "__main__":
    main()
