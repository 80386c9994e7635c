"""What the actors get of the environment, and what is said before they start."""

import json
from pathlib import Path

import pytest
from towers import SMALL16, write_local_dir

from scclip.encoder.checkpoints import find_weights
from scclip.encoder.config import ModelConfig
from scclip.jobs.setup.models import architecture, calibration_note, wanted_threads
from scclip.pipeline.labeling.models import load_warnings
from scclip.vocabulary.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({}, 0),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "1", "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {}, "metadata": {}})}, 0),
        ({"OMP_NUM_THREADS": "1", "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": None})}, 0),
        (
            {
                "OMP_NUM_THREADS": "5",
                "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "5"}}}),
            },
            5,
        ),
    ],
)
def test_threads_are_those_that_were_asked_for(
    environ: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a submitted job Ray's own 1 does not count."""
    for name in ("OMP_NUM_THREADS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wanted_threads() == threads


def test_the_demo_model_is_not_taken_for_another() -> None:
    assert not load_warnings(ModelConfig(), Vocabulary.load("demo"))
    assert not load_warnings(ModelConfig(model="ViT-B-16", pretrained="x"), Vocabulary.load("voc21"))
    (line,) = load_warnings(ModelConfig(), Vocabulary.load("voc21"))
    assert "'voc21'" in line and "--model" in line


def test_layers_by_proportion_are_noted(tmp_path: Path) -> None:
    """run.json holds the sentence for towers whose settings nobody has published, and none for the others."""
    notes = {}
    for layers in (6, 12, 20, 24):
        model = write_local_dir(tmp_path / str(layers), {**SMALL16, "width": 32, "heads": 1, "layers": layers})
        notes[layers] = calibration_note(architecture(find_weights(ModelConfig(model=f"local-dir:{model}"))).layers)
    assert notes[12] is None and notes[24] is None
    assert "6 blocks" in str(notes[6]) and "those for 12" in str(notes[6])
    assert "20 blocks" in str(notes[20]) and "those for 24" in str(notes[20])
