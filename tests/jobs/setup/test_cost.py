"""The two lines before a long run: when they are said, what they say; nothing in the sample can harm a run."""

import json
import os
import types
from pathlib import Path
from typing import Any

import pytest
from pictures import write_shard
from processes import QUICK

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import main
from scclip.jobs.setup import cost
from scclip.jobs.setup.cost import cost_lines, try_sample
from scclip.pipeline.cluster.resources import ComputeConfig, Resources, Shape, divide
from scclip.pipeline.inputs.units import PlannedFile, Unit
from scclip.pipeline.labeling.models import find_model
from scclip.pipeline.labeling.sampling import Sample

SAMPLE = Sample(
    images=8, labeled=8, windows=48, cpu_seconds=0.08, label_seconds=8.0, output_bytes=80_000, encoded_bytes=400_000
)


def files(images: int) -> list[Unit]:
    """Units of image files."""
    file = PlannedFile(url="/in/a.png", size=9, version="", key="a", file_name="a.png")
    return [Unit(number=1, kind="files", url="/in", size=9, version="", files=(file,) * images)]


def said(monkeypatch: pytest.MonkeyPatch, units: list[Unit], resources: Resources, sample: Sample | None) -> list[str]:
    taken = list[Any]()
    monkeypatch.setattr(cost, "try_sample", lambda *given: taken.append(given) or sample)
    setup, job = (
        types.SimpleNamespace(source=find_model(ModelConfig(), False)),
        types.SimpleNamespace(resources=resources),
    )
    lines = cost_lines(units, setup, job)  # type: ignore[arg-type]
    return [*lines, *(["sampled"] if taken else [])]


CPUS = divide(ComputeConfig(), nodes=[Shape(cpus=2)])


def test_an_hour_and_more_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image a second: 7,200 images are two hours; a shard's images follow from its bytes, 50 kB each."""
    first, second, _ = said(monkeypatch, files(7_200), CPUS, SAMPLE)
    assert first.startswith("about 7,200 images will take about 2 h 0 min with 1 actor (4 CPU-hours); ")
    assert second.startswith(
        "about 72.0 MB of labels will be written; 1 images/s an actor, measured on 8 images of the input"
    )
    shard = Unit(number=1, kind="tar", url="/in/a.tar", size=7_200 * 50_000, version="")
    assert said(monkeypatch, [shard], CPUS, SAMPLE)[:2] == [first, second]


def test_a_short_run_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, files(999), CPUS, SAMPLE) == []
    gpu = divide(ComputeConfig(), nodes=[Shape(cpus=16, gpus=1)])
    assert said(monkeypatch, files(199_999), gpu, SAMPLE) == []
    assert said(monkeypatch, files(3_000), CPUS, SAMPLE) == ["sampled"]  # 50 minutes


def test_without_a_sample_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, files(9_000), CPUS, None) == ["sampled"]


def die(*given: object) -> None:
    os._exit(9)


def test_a_sample_that_dies_is_no_sample(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "sample_in_scratch", die)
    assert try_sample([], None) is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_lines_and_report_of_a_real_run(
    local_ray: None,
    small_model: str,
    vocabulary_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With an hour of no seconds; the run itself is the same, and --report writes its page."""
    monkeypatch.setattr(cost, "CPU_IMAGES", 1)
    monkeypatch.setattr(cost, "LONG", 0.0)
    monkeypatch.setattr(cost, "USUAL_BYTES", 1_000)
    write_shard(tmp_path / "in" / "a.tar", range(5))
    flags = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]
    words = ["label", str(tmp_path / "in"), str(tmp_path / "out"), *flags, "--report"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("scclip label: about ")]
    assert len(lines) == 2 and " images will take about " in lines[0] and " of labels will be written; " in lines[1]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images_read"] == 5 and out.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    page = tmp_path / "out" / "report.html"
    page.unlink()
    assert main([*words, "-q"]) == 0 and page.exists()
    assert capsys.readouterr().out == ""
