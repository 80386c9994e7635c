"""The arrays of the official implementation, and how far the product's are from them; on any device."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from towers import GOLDEN, clip

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import SegmenterConfig

STEM = Path(os.environ.get("GOLDEN", GOLDEN / "official-seed11"))
META = json.loads(STEM.with_name(STEM.name + ".json").read_text())
ARRAYS = np.load(STEM.with_name(STEM.name + ".npz"))


def model(name: str, device: str) -> SelfCalibratedCLIP:
    sizes = META["arch"][name]
    calibration = CalibrationConfig.published(sizes["layers"])
    if sizes["layers"] == 24:
        given = META["l14"]
        assert calibration.similarity_layer == given["pre_adjust_idx"]
        assert calibration.post_layer == given["post_adjust_idx"]
        assert calibration.fused_layers == (given["multi_start_idx"], given["multi_end_idx"] - 1)
        assert calibration.class_residual == given["res_cls"]
    return SelfCalibratedCLIP(clip(sizes, META["seed"]).visual, calibration).to(device)


def check_features(name: str, device: str = "cpu") -> None:
    expected, pixels = ARRAYS[f"{name}.features"], torch.from_numpy(ARRAYS[f"{name}.pixels"]).float()
    features = model(name, device).encode_patches(pixels.to(device)).cpu().numpy()
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).mean()


def check_case(name: str, device: str = "cpu") -> None:
    case = META["cases"][name]
    whole = case.get("slide_crop") == 0
    pixels = torch.from_numpy(ARRAYS["slide.pixels"]).float()
    size = ARRAYS[f"{name}.labels"].shape
    config = SegmenterConfig(
        window=case.get("slide_crop", 224),
        logit_scale=case.get("logit_scale", 40),
        confidence_threshold=case.get("prob_thd", 0),
        area_threshold=case.get("area_thd", 0),
        pamr_steps=case.get("pamr_steps", 0),
        pamr_dilations=tuple(case.get("pamr_stride", (8, 16))),
        tile_mib=1,
    )
    text = ARRAYS["text"][: len(case["query_class"])]
    segmenter = WindowSegmenter(model("small16", device), text, case["query_class"], config)
    pixels = pixels[..., : pixels.shape[-2]] if whole else pixels
    logits = segmenter.cosine_logits(pixels, size)[:, ::25, ::25].cpu().numpy()
    assert np.abs(logits - ARRAYS[f"{name}.logits_sub"]).max() <= 1e-5
    result = segmenter.segment_pixels(pixels, size)
    assert (result.labels == ARRAYS[f"{name}.labels"]).mean() >= 0.999
    quantised = np.abs(result.confidence[::25, ::25] / 255 - ARRAYS[f"{name}.prob_max_sub"])
    assert quantised.max() <= 0.5 / 255 + 1e-4
