"""Which rate a dry run counts with, and that it says so: the sample's own, else one measured before on such a GPU."""

import dataclasses

import pytest

from scclip.jobs.setup import dry_run
from scclip.jobs.setup.dry_run import find_rate
from scclip.jobs.setup.models import Architecture
from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.labeling.sampling import Sample

VIT_B, OTHER = Architecture(12, 16, 768), Architecture(24, 14, 1024)
UNLABELED = Sample(images=32, labeled=0, windows=0, cpu_seconds=1, label_seconds=None, output_bytes=0)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "MEASURED", {("NVIDIA Old", VIT_B): 100.0})


def test_the_sample_comes_first() -> None:
    resources = divide(ComputeConfig(), nodes=[Shape(cpus=8, gpus=1)])
    rate, text = find_rate(dataclasses.replace(UNLABELED, labeled=32, label_seconds=0.1), VIT_B, resources)
    assert rate == pytest.approx(320) and text == "320 images/s an actor, measured on 32 images of the input"


@pytest.mark.parametrize(("share", "expected"), [(1.0, 100), (0.5, 50)])
def test_gpus_to_come_are_taken_for_one_that_was_measured(share: float, expected: float) -> None:
    compute = ComputeConfig(gpus_per_actor=share)
    resources = divide(compute, nodes=[Shape(cpus=2)], more=[Shape(cpus=8, gpus=1)])
    assert resources.fitting == 0
    rate, text = find_rate(UNLABELED, VIT_B, resources)
    assert rate == expected
    assert text == f"{expected} images/s an actor, measured before on one NVIDIA Old, 640 × 480 pixels, 171 queries"
    assert find_rate(UNLABELED, OTHER, resources)[0] is None


def test_a_cpu_is_not_taken_for_a_gpu() -> None:
    resources = divide(ComputeConfig(gpus_per_actor=0), nodes=[Shape(cpus=2)])
    rate, text = find_rate(UNLABELED, VIT_B, resources)
    assert rate is None and text.startswith("not known: ")
