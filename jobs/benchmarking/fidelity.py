"""`scclip bench fidelity`: how far features, logits and labels are from those of a reference implementation.

    scclip bench fidelity --reference golden/
    scclip bench fidelity --reference official/ --model ViT-B-16-quickgelu --pretrained openai

The folder holds arrays in the form of docs/fidelity.md. Everything is computed in float32 on the CPU. The exit code is
1 where anything lies outside of its bound.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from scclip.encoder.checkpoints import find_weights, load_clip
from scclip.encoder.config import ModelConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import UserError, one_line
from scclip.jobs.benchmarking.measuring import report
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.options import OptionParser
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig

FEATURES = 1e-4  # largest difference, relative to the mean magnitude of the reference
LOGITS = 1e-5  # largest difference of cosines
LABELS = 0.999  # least share of equal pixels: ties round differently
STEP = 25  # every how many pixels `logits_sub` has one
CASE_FIELDS = {"slide_crop": "window", "slide_stride": "stride", "prob_thd": "confidence_threshold"}
CASE_FIELDS |= {"area_thd": "area_threshold", "pamr_stride": "pamr_dilations"}
OTHER_FIELDS = ("query_class", "tower")


@dataclass(frozen=True, kw_only=True)
class BenchFidelityOptions:
    """What is compared."""

    reference: str
    """Folder with the arrays of a reference implementation: NAME.json beside NAME.npz."""


@dataclass(frozen=True)
class Reference:
    """Arrays of a reference implementation and what they were made from."""

    file: Path
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def array(self, name: str, *shape: int | None) -> np.ndarray:
        """The array of this name and shape, None being any length; UserError where there is none."""
        if name not in self.arrays:
            raise UserError(f"--reference {self.file}: no array {name!r}; docs/fidelity.md says which there are")
        array = self.arrays[name]
        lengths = zip(array.shape, shape, strict=False)
        if array.ndim != len(shape) or any(wanted not in (None, length) for length, wanted in lengths):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            what = f"array {name!r} is {array.shape}, not ({wanted})"
            raise UserError(f"--reference {self.file}: {what}; docs/fidelity.md says what it is")
        return array


@dataclass(frozen=True)
class Comparison:
    """One figure beside its bound."""

    subject: str
    figure: str
    value: float
    bound: float

    @property
    def good(self) -> bool:
        """Whether the figure lies within its bound; NaN never does."""
        return self.value >= self.bound if self.figure == "labels" else self.value <= self.bound


def main(argv: Sequence[str]) -> int:
    """Compares with every reference of the folder, prints, returns the exit code."""
    parser = OptionParser("bench fidelity", __doc__.split("\n\n")[0], [BenchFidelityOptions, ModelConfig])
    options, model = parser.parse(argv)
    results = [result for reference in references(Path(options.reference)) for result in compare(reference, model)]
    rows: list[list[object]] = [["subject", "figure", "value", "bound", ""]]
    rows += [[r.subject, r.figure, f"{r.value:.3g}", r.bound, "ok" if r.good else "OUTSIDE"] for r in results]
    figures = {"figures": [{**vars(result), "good": result.good} for result in results]}
    report("fidelity", {"reference": options.reference, "model": model.model}, figures, rows, "cpu")
    return 0 if all(result.good for result in results) else 1


def references(folder: Path) -> list[Reference]:
    """The references of a folder; UserError where there is none, or one cannot be read."""
    found = []
    for file in sorted(folder.glob("*.npz")):
        try:
            meta = json.loads(file.with_suffix(".json").read_text())
            with np.load(file, allow_pickle=False) as content:
                arrays = dict(content)
        except Exception as error:
            raise UserError(f"--reference {file}: {one_line(error)}; docs/fidelity.md shows the form") from None
        if not isinstance(meta, dict):
            raise UserError(f"--reference {file.with_suffix('.json')} holds no object; docs/fidelity.md shows the form")
        found.append(Reference(file, meta, arrays))
    if not found:
        raise UserError(f"--reference {folder}: no NAME.npz there; docs/fidelity.md says how to make the arrays")
    return found


def compare(reference: Reference, model: ModelConfig) -> list[Comparison]:
    """Compares the features of every tower, then logits and labels of every case."""
    try:
        drawn, cases = reference.meta.get("arch"), reference.meta.get("cases", {})
        if drawn:
            towers = {name: drawn_tower(sizes, reference.meta["seed"]) for name, sizes in drawn.items()}
        else:
            towers = {"model": load_clip(find_weights(model)).visual()}
        results = [compare_features(reference, name, tower) for name, tower in towers.items()]
        for name, case in cases.items():
            tower = towers[case.get("tower", next(iter(towers)))]
            results += compare_case(reference, name, case, tower)
        return results
    except UserError:
        raise
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        where = reference.file.with_suffix(".json")
        raise UserError(f"--reference {where}: {what}; docs/fidelity.md shows the form") from None


def compare_features(reference: Reference, name: str, tower: SelfCalibratedCLIP) -> Comparison:
    """The patch features of the pixels `NAME.pixels`."""
    expected, pixels = (
        reference.array(f"{name}.features", None, None, None),
        reference.array(f"{name}.pixels", None, 3, None, None),
    )
    features = tower.encode_patches(torch.from_numpy(pixels).float()).numpy()
    if features.shape != expected.shape:
        what = f"array {name}.features is {expected.shape}, ours {features.shape}"
        raise UserError(f"--reference {reference.file}: {what}; give the --model that it was made with")
    return Comparison(name, "features", float(np.abs(features - expected).max() / np.abs(expected).mean()), FEATURES)


def compare_case(
    reference: Reference, name: str, case: Mapping[str, Any], tower: SelfCalibratedCLIP
) -> list[Comparison]:
    """The logits and labels of one image, cut and scored as the case says."""
    config = case_config(case)
    pixels = torch.from_numpy(reference.array("slide.pixels", 1, 3, None, None)).float()
    expected = reference.array(f"{name}.labels", None, None)
    size = expected.shape[0], expected.shape[1]
    if config.window == 0 and size[0] == size[1]:  # the square at the left
        pixels = pixels[..., : pixels.shape[-2]]
    text = reference.array("text", None, tower.visual.output_dim)[: len(case["query_class"])]
    if not np.allclose(np.linalg.norm(text, axis=1), 1, atol=1e-3):
        raise UserError(f"--reference {reference.file}: array 'text' is not of unit norm; divide each row by its norm")
    segmenter = WindowSegmenter(tower, text, case["query_class"], config)
    logits = segmenter.cosine_logits(pixels, size)[:, ::STEP, ::STEP].numpy()
    labels = segmenter.segment_pixels(pixels, size).labels
    difference = float(np.abs(logits - reference.array(f"{name}.logits_sub", *logits.shape)).max())
    return [
        Comparison(name, "logits", difference, LOGITS),
        Comparison(name, "labels", float((labels == expected).mean()), LABELS),
    ]


def case_config(case: Mapping[str, Any]) -> SegmenterConfig:
    """The settings of a case, given in the words of the official code or of `SegmenterConfig`."""
    known = {field.name for field in fields(SegmenterConfig)}
    given: dict[str, Any] = {"logit_scale": 40}
    for name, value in case.items():
        field = CASE_FIELDS.get(name, name)
        if field in known:
            given[field] = tuple(value) if isinstance(value, list) else value
        elif name not in OTHER_FIELDS:
            raise ValueError(f"unknown key {name!r} of a case: {hint(name, [*OTHER_FIELDS, *CASE_FIELDS, *known])}")
    return SegmenterConfig(**given)


def drawn_tower(sizes: Mapping[str, int], seed: int) -> SelfCalibratedCLIP:
    """A vision tower of these sizes with the golden weights: every tensor from its own generator."""
    tower = open_clip.transformer.VisionTransformer(
        image_size=sizes["input_resolution"],
        patch_size=sizes["patch_size"],
        width=sizes["width"],
        layers=sizes["layers"],
        heads=sizes["heads"],
        mlp_ratio=4.0,
        output_dim=sizes["output_dim"],
        act_layer=open_clip.transformer.QuickGELU,
    )
    tower.load_state_dict({k: torch.from_numpy(draw(k, tuple(v.shape), seed)) for k, v in tower.state_dict().items()})
    return SelfCalibratedCLIP(tower)


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The tensor of this name, float32, equal on every platform."""
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if ".ln_" in f".{name}" and name.endswith(".weight"):
        values = 1.0 + 0.1 * values
    elif name.endswith(".bias"):
        values = 0.05 * values
    elif name in ("class_embedding", "positional_embedding"):
        values = 0.3 * values
    elif name == "conv1.weight":
        values = values / np.sqrt(np.prod(shape[1:])) * 2.0
    elif name == "proj":
        values = values / np.sqrt(shape[0])
    else:
        values = values / np.sqrt(shape[-1]) * 0.7
    return values.astype(np.float32)
