"""Training resumes to the bit, trains through the real method, and the bundled weights load and mean something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from scclip.demo.scenes import CLASSES
from scclip.demo.training import train as training
from scclip.demo.training.objectives import (
    TEMPLATES,
    dense_features,
    draw_captions,
    draw_regions,
    embed,
    patch_fractions,
    run_block,
)
from scclip.demo.training.trainee import MODEL_CONFIG, STAGES, TrainingConfig
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.metrics import confusion, iou
from scclip.vocabulary.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A block of the pool, far smaller than a real one."""
    directory = tmp_path_factory.mktemp("pool")
    windows = np.random.default_rng(0).integers(1, 15, (2000, 112, 112, 1), np.uint8).repeat(4, axis=3)
    np.save(directory / "windows-000.npy", windows)
    return directory


@pytest.mark.parametrize("stage", STAGES)
def test_two_steps_and_two_more_equal_four(stage: str, pool: Path, tmp_path: Path) -> None:
    config = TrainingConfig(output=tmp_path / "once", stage=stage, steps=4, batch=2, workers=1, blocks=1)
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pool").symlink_to(pool)
    training.train(config)
    split = replace(config, output=tmp_path / "twice")
    training.train(replace(split, stop_after=2))
    half = torch.load(tmp_path / "twice" / "checkpoint.pt", weights_only=True)
    training.train(split)
    once, twice = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("once", "twice"))
    assert half["step"] == 2 and once["step"] == twice["step"] == 4
    moved = [name for name, value in once["model"].items() if not torch.equal(value, half["model"][name])]
    assert len(moved) > (15 if stage == "text" else 100)
    for name, value in once["model"].items():
        assert torch.equal(value, twice["model"][name]), name


def test_the_trained_path_is_the_method() -> None:
    """The training's forward with gradients against the inference model, both with every step on."""
    torch.manual_seed(0)
    visual = open_clip.CLIP(**MODEL_CONFIG).visual.eval()
    config = CalibrationConfig(class_residual=0.2, similarity_threshold=0.5)
    pixels = torch.randn(2, 3, 112, 112)
    trained = dense_features(visual, pixels, config)
    torch.testing.assert_close(trained.calibrated, SelfCalibratedCLIP(visual, config).encode_patches(pixels))
    maskclip = SelfCalibratedCLIP(visual, config.maskclip()).encode_patches(pixels)
    torch.testing.assert_close(trained.value, maskclip)
    torch.testing.assert_close(trained.image, visual(pixels))
    tokens = visual.ln_pre(embed(visual, pixels))
    torch.testing.assert_close(
        run_block(visual.transformer.resblocks[0], tokens), visual.transformer.resblocks[0](tokens)
    )


def test_regions_are_crops_of_at_least_two_by_two_patches() -> None:
    rng = np.random.default_rng(0)
    regions = draw_regions(rng, 8, 24, 14)
    assert regions.shape == (8, 24, 196)
    torch.testing.assert_close(regions.sum(-1), torch.ones(8, 24))
    maps = (regions > 0).view(-1, 14, 14)
    rows, columns = maps.any(2).sum(1), maps.any(1).sum(1)
    assert int(rows.min()) == int(columns.min()) == 2 and int(rows.max()) <= 6
    assert torch.equal(maps.flatten(1).sum(1), rows * columns)


def test_fractions_count_pixels() -> None:
    truth = np.random.default_rng(1).integers(1, 15, (2, 24, 16), np.uint8)
    fractions = patch_fractions(torch.from_numpy(truth), 8)
    assert fractions.shape == (2, 6, 14)
    expected = [(truth[1, 8:16, 8:16] == c).mean() for c in range(1, 15)]
    np.testing.assert_allclose(fractions[1, 3].numpy(), expected, rtol=1e-6)


def test_captions_name_what_they_say() -> None:
    captions, named = draw_captions(np.random.default_rng(0), pairs=5)
    assert len(captions) == len(named) == 19 and (named[:14] == np.eye(14)).all()
    for caption, row in zip(captions, named, strict=True):
        assert all(name in caption for name, said in zip(CLASSES, row, strict=True) if said)
    assert Vocabulary.load("demo").templates == TEMPLATES


def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage 'both' is unknown; choose text, image, region"):
        TrainingConfig(output=tmp_path, stage="both", steps=1)


def test_class_iou_against_counting() -> None:
    rng = np.random.default_rng(2)
    truth, guess = rng.integers(0, 14, 500), rng.integers(0, 14, 500)
    matrix = confusion((truth + 1).astype(np.uint8), (guess + 1).astype(np.uint8), 15)
    expected = [((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in range(14)]
    np.testing.assert_allclose(iou(matrix)[1:], expected)
