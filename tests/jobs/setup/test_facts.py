"""What is known of an option stands at its field, and none is forgotten: what run.json holds, what travels and how."""

import dataclasses
import json
import typing
from importlib import import_module

import pytest

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import READ_WORDS, VERBS
from scclip.jobs.cli.options import recorded, unwrap
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.labeling import LabelingSetup
from scclip.jobs.submission.request import TRAVELS
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.labeling.models import find_model, load_vocabulary
from scclip.pipeline.run.manifest import ModelRecord, OptionsRecord, RunManifest
from scclip.segmentation.types import SegmentationOptions

# Of the model's record: from the weights, as they are loaded.
TAKEN = {"weights_sha256", "quick_gelu", "calibration", "calibration_note"}
SETTLED = {
    "inputs",
    "output",
    "max_failed",
    "dry_run",
    "report",
    "retry_failed",
    "address",
}  # no label depends on these
ELSEWHERE = {"vocabulary", "chunk_size", "pretrained", "quick_gelu", "calibration"}  # run.json has what they stand for


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_option_of_labeling_is_recorded_or_says_why_not() -> None:
    """A new option is recorded unless its field says otherwise; without a place in run.json no run starts."""
    options = LabelOptions(inputs=("in",), output="out")
    assert set(recorded(options)) == names(OptionsRecord) == names(LabelOptions) - SETTLED - ELSEWHERE
    assert set(recorded(ModelConfig())) == names(ModelRecord) - TAKEN == names(ModelConfig) - ELSEWHERE

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class More(LabelOptions):
        forgotten: bool = False

    with pytest.raises(TypeError, match="forgotten"):
        OptionsRecord(**recorded(More(inputs=("in",), output="out")))


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in READ_WORDS])
def test_every_text_says_how_it_travels(verb: str) -> None:
    for group in import_module(f"scclip.jobs.options.{verb}").parser().groups:
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            kind, _, choices = unwrap(hints[field.name])
            if kind is str and not choices:
                assert field.metadata.get("travels") in TRAVELS, (verb, field.name)


def test_a_manifest_survives_its_file() -> None:
    """Every value comes back, and the bytes are the same again."""
    options = LabelOptions(inputs=("in",), output="out", masks="png", limit=7)
    vocabulary, given = load_vocabulary("coco_stuff"), SegmentationOptions(confidence_threshold=0.3)
    source = find_model(ModelConfig(), cuda=False)
    setup = LabelingSetup(options, source, given, ComputeConfig(), vocabulary, cuda=False)
    manifest = setup.manifest()
    text = json.dumps(manifest.to_json(), indent=1, sort_keys=True)
    again = RunManifest.from_json(json.loads(text))
    assert json.dumps(again.to_json(), indent=1, sort_keys=True) == text and again.digest() == manifest.digest()
    assert again.options == manifest.options and again.segmentation == manifest.segmentation
    assert again.vocabulary == manifest.vocabulary and again.categories == vocabulary.categories
    assert "evaluation" not in manifest.to_json() and manifest.vocabulary.sha256 == vocabulary.digest()
