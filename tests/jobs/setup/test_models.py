"""What the actors get of the environment, and what is said before they start."""

import json

import pytest

from scclip.encoder.config import ModelConfig
from scclip.jobs.setup.models import wanted_threads
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
