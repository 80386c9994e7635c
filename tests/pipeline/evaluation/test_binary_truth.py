"""Truth of 0 and the highest value alone, as masks of one object have it: the highest is ignored, and this is said."""

from pathlib import Path

import numpy as np
import pytest

from scclip.categories import Categories
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import table_of
from scclip.pipeline.evaluation.results import Evaluation, as_markdown
from scclip.pipeline.evaluation.scoring import (
    PREDICTED_SCHEMA,
    PredictedImage,
    Scoring,
    commit_scores,
    finish_scores,
    read_scores,
    truth_warnings,
)
from scclip.pipeline.evaluation.truth import TruthConfig
from scclip.pipeline.inputs.chunks import Chunk, ResumePoint
from scclip.pipeline.run.files import RunFiles

FOREGROUND, OTHER = 1, 2  # instead of values in the planes below
NAMES = {False: {1: "road", 2: "car"}, True: {0: "background", 1: "road", 2: "car"}}


def warnings_of(output: Path, planes: list[np.ndarray], background: bool, ignore: tuple[int, ...] = ()) -> list[str]:
    """What is said of these truth planes, one image each, in parts of one image."""
    truth = TruthConfig(offset=0 if background else 1, ignore=ignore)
    scoring = Scoring(categories=Categories(NAMES[background]), variants=("one",), truth=truth)
    files = RunFiles(str(output))
    for index, plane in enumerate(planes):
        image = PredictedImage(unit=1, index=index, key=str(index), file_name=f"{index}.png", truth=png(plane))
        image.height, image.width = plane.shape
        image.windows, image.anomaly_tokens, image.seconds = 1, 0, 0.1
        image.predictions = [np.ones(plane.shape, np.uint8).tobytes()]
        table = table_of([image], PREDICTED_SCHEMA)
        commit_scores(Chunk(1, index, table, ResumePoint(chunk=index + 1)), files, scoring)
    finish_scores(1, len(planes), files, scoring)
    totals, matrices = read_scores(files, [1], scoring)
    assert totals.statuses == {"ok": len(planes)}
    return list(truth_warnings(totals, matrices[0], truth))


def mask(dtype: type, *kinds: int) -> np.ndarray:
    """A plane (8, 10) of zeros with a block of 20 pixels for each kind."""
    plane, values = np.zeros((8, 10), dtype), {FOREGROUND: np.iinfo(dtype).max, OTHER: 1}
    for place, kind in enumerate(kinds):
        plane[2 * place : 2 * place + 2] = values[kind]
    return plane


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("images", [1, 3])
def test_truth_of_two_values_is_said(images: int, dtype: type, background: bool, tmp_path: Path) -> None:
    planes = [mask(dtype, FOREGROUND), mask(dtype), mask(dtype, FOREGROUND)][:images]
    (line,) = warnings_of(tmp_path, planes, background)
    assert f"{25.0 if images == 1 else 16.7} % of the pixels" in line and "255" in line and "\n" not in line
    evaluation = Evaluation(
        title="a", model="b", names=NAMES[True], matrices={"one": np.eye(3, 4)}, statuses={}, warnings=(line,)
    )
    assert line in as_markdown(evaluation)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_truth_with_a_class_or_without_ignored_pixels_is_not(dtype: type, tmp_path: Path) -> None:
    assert not warnings_of(tmp_path / "class", [mask(dtype, FOREGROUND), mask(dtype, FOREGROUND, OTHER)], False)
    assert not warnings_of(tmp_path / "none", [mask(dtype), mask(dtype)], True)
    assert not warnings_of(tmp_path / "wanted", [mask(dtype, OTHER)], True, ignore=(1,))
