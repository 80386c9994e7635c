"""Evaluation through the command: against a plain loop, in one pass and alone, resumed, of a run's labels, refusals."""

import io
import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pictures import SIZES, encoded, tar_bytes
from PIL import Image
from processes import QUICK, QUICK_WINDOWS, run, said, start

from scclip.encoder.checkpoints import WeightsSource
from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import main
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.setup.evaluation import deviations, in_levels, protocol_options
from scclip.jobs.setup.labeling import LabelingSetup
from scclip.jobs.setup.models import architecture
from scclip.pipeline.benchmarks.protocols import BACKBONES, BENCHMARKS
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.labeling.graph import UnitTracker
from scclip.pipeline.labeling.models import load_vocabulary
from scclip.segmentation.settings import segmenter_config
from scclip.segmentation.types import SegmentationOptions, SegmenterConfig

pytestmark = pytest.mark.usefixtures("local_ray")
VARIANTS = ("scclip", "maskclip", "clip", "maskclip+fusion")
CLASSES = ("road", "car", "person", "tree", "bed")


def truth_png(seed: int, size: tuple[int, int], highest: int = len(CLASSES) - 1) -> bytes:
    """Blocks of class indices 0…highest and 255, as a PNG."""
    random = np.random.default_rng([seed, 7])
    blocks = random.choice([*range(highest + 1), 255], (1 + size[0] // 16, 1 + size[1] // 16)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]).save(buffer, "PNG")
    return buffer.getvalue()


def sample(seed: int) -> dict[str, bytes]:
    size = SIZES[seed % len(SIZES)]
    return {f"{seed:06d}.png": encoded(seed), f"{seed:06d}.seg.png": truth_png(seed, size)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 5 and 3 pictures with class indices from 0."""
    root = tmp_path_factory.mktemp("truth")
    for name, seeds in (("a", range(5)), ("b", range(5, 8))):
        (root / f"{name}.tar").write_bytes(tar_bytes({k: v for seed in seeds for k, v in sample(seed).items()}))
    return root


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "five.yaml"
    names = "".join(f"  - {name}\n" for name in CLASSES)
    path.write_text(
        f"name: five\nclasses:\n{names}templates: ['a photo of a {{}}.']\nlogit_scale: 40\nthreshold: 0.21\n"
    )
    return path


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary: Path) -> list[str]:
    return ["--model", small_model, "--vocabulary", str(vocabulary), *QUICK]


@pytest.fixture(scope="module")
def evaluated(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All variants in one pass, every image a part of its own."""
    output = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluate(shards, output, *flags, "--chunk-size", 1, "--variants", *VARIANTS) == 0
    return output


def evaluate(*words: Any) -> int:
    return main(["evaluate", *map(str, words)])


def results(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "results.json").read_text()))


def confusions(output: Path) -> dict[str, list[list[int]]]:
    return {name: found["confusion"] for name, found in results(output)["variants"].items()}


def test_it_is_a_plain_loop(evaluated: Path, shards: Path, small_model: str, vocabulary: Path) -> None:
    """Images one by one through `WindowSegmenter.segment`, pixels through a Python loop, classes as pixel sets."""
    from scclip.encoder.checkpoints import find_weights, load_clip
    from scclip.encoder.tower import SelfCalibratedCLIP
    from scclip.encoder.variants import variant
    from scclip.segmentation.segmenter import WindowSegmenter
    from scclip.vocabulary.text_features import encode_queries
    from scclip.vocabulary.vocabulary import Vocabulary

    clip, words = load_clip(find_weights(ModelConfig(model=small_model))), Vocabulary.load(str(vocabulary))
    features, full = encode_queries(clip.model, clip.tokenizer, words), clip.visual()
    quick = SegmentationOptions(**QUICK_WINDOWS)
    config = segmenter_config(quick, words, clip.source, cuda=False)
    found = results(evaluated)["variants"]
    for name in VARIANTS:
        model = SelfCalibratedCLIP(full.visual, variant(full.calibration, name))
        segmenter = WindowSegmenter(model, features, words.query_category, config)
        matrix, sets = np.zeros((5, 6), np.int64), np.zeros((5, 2), np.int64)
        for seed in range(8):
            image = np.asarray(Image.open(io.BytesIO(encoded(seed))))
            truth = np.asarray(Image.open(io.BytesIO(sample(seed)[f"{seed:06d}.seg.png"])))
            labels = segmenter.segment([image])[0].labels
            for wanted, mine in zip(truth.ravel().tolist(), labels.ravel().tolist(), strict=True):
                if wanted != 255:
                    matrix[wanted, 5 if mine == 255 else mine - 1] += 1
            for index in range(5):
                real, mine = truth == index, (labels == index + 1) & (truth != 255)
                sets[index] += [(real & mine).sum(), (real | mine).sum()]
        assert found[name]["confusion"] == matrix.tolist()
        wanted = sets[:, 0] / sets[:, 1]
        np.testing.assert_allclose(np.array(found[name]["iou"], float), wanted, rtol=1e-12)
        assert found[name]["miou"] == pytest.approx(wanted.mean(), rel=1e-12)
        assert found[name]["pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum(), rel=1e-12)
    matrices = np.array(list(confusions(evaluated).values()))
    assert len({matrix.tobytes() for matrix in matrices}) == len(VARIANTS)
    assert matrices[..., 5].any()  # some pixels were below the threshold


def test_variants_in_one_pass_are_single_runs(
    evaluated: Path, shards: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one part a unit against one an image, and --method against --variants."""
    assert evaluate(shards, tmp_path / "one", *flags, "--method", "maskclip") == 0
    assert confusions(tmp_path / "one") == {"maskclip": confusions(evaluated)["maskclip"]}
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != "report.html"}
    assert evaluate(shards, tmp_path / "one", *flags, "--method", "maskclip") == 0
    said = capsys.readouterr().out
    miou = results(tmp_path / "one")["variants"]["maskclip"]["miou"]
    assert "nothing to do" in said and f"{100 * miou:.2f}" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert evaluate(shards, tmp_path / "one", *flags, "--method", "clip") == 2
    assert "evaluation.variants" in capsys.readouterr().err


def test_an_interrupted_evaluation_goes_on(
    evaluated: Path, shards: Path, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def interrupted(tracker: UnitTracker, outcome: Any) -> None:
        seen.append(outcome)
        if len(seen) == 3:
            raise KeyboardInterrupt

    words = [shards, tmp_path / "out", *flags, "--chunk-size", 1, "--variants", *VARIANTS]
    with monkeypatch.context() as patched:
        patched.setattr(UnitTracker, "add", interrupted)
        assert evaluate(*words) == 130
    parts = {path: path.stat().st_ino for path in (tmp_path / "out").glob("_parts/*/*.parquet")}
    assert len(parts) >= 3 and not (tmp_path / "out" / "results.json").exists()
    assert evaluate(*words) == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == (evaluated / "results.json").read_bytes()
    tables = [ds.dataset(folder / "images").to_table().drop(["seconds"]) for folder in (tmp_path / "out", evaluated)]
    assert tables[0].to_pylist() == tables[1].to_pylist()


@pytest.mark.chaos
def test_a_killed_evaluation_goes_on(evaluated: Path, shards: Path, flags: list[str], tmp_path: Path) -> None:
    words = ["evaluate", shards, tmp_path / "out", *flags, "--chunk-size", 1, "--variants", *VARIANTS]
    process, until = start(words), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not list((tmp_path / "out").glob("_parts/*/[!.]*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out" / "results.json").exists()
    code, _, err = run(words)
    assert code == 0, err
    assert (tmp_path / "out" / "results.json").read_bytes() == (evaluated / "results.json").read_bytes()


def test_labels_of_a_run(
    evaluated: Path, shards: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through its own shards, through copies under other names (by key), and never once the labels have changed."""
    assert main(["label", str(shards), str(tmp_path / "run"), *flags]) == 0
    capsys.readouterr()
    words = ["--labels", tmp_path / "run", "--truth", shards, "--json"]
    assert evaluate(*words) == 0
    first = capsys.readouterr()
    assert json.loads(first.out) == results(tmp_path / "run-evaluation") and "8 images in " in first.err
    assert evaluate(*words, "-q") == 0
    assert capsys.readouterr() == (first.out, "")
    assert confusions(tmp_path / "run-evaluation") == {"scclip": confusions(evaluated)["scclip"]}
    page = (tmp_path / "run-evaluation" / "report.html").read_text()
    assert page.count("<article") == 8 and 'class="confusion"' in page and "src=" not in page
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("a", "b"):
        shutil.copy(shards / f"{name}.tar", copies / f"other-{name}.tar")
    (copies / "more.tar").write_bytes(tar_bytes(sample(8)))
    assert evaluate(tmp_path / "other", "--labels", tmp_path / "run", "--truth", copies) == 1
    assert "1 not_labeled" in capsys.readouterr().err
    assert confusions(tmp_path / "other") == confusions(tmp_path / "run-evaluation")
    assert main(["verify", str(tmp_path / "run")]) == 0

    path = next((tmp_path / "run" / "images").glob("*.parquet"))
    table = pq.read_table(path)
    changed = table.schema.metadata | {b"sha256": json.dumps({"coco": "0" * 64}).encode()}
    pq.write_table(table.replace_schema_metadata(changed), path)  # as if its unit had been labeled again
    assert evaluate("--labels", tmp_path / "run", "--truth", shards) == 2
    assert "evaluation.labels_sha256" in capsys.readouterr().err


def test_bad_images_become_rows(
    small_model: str, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = SIZES[0]
    members = {
        **sample(0),
        "none.png": encoded(1),
        "size.png": encoded(0),
        "size.seg.png": truth_png(0, (size[1], size[0])),
        "value.png": encoded(0),
        "value.seg.png": truth_png(0, size, highest=len(CLASSES)),
        "broken.png": b"\x89PNG\r\n\x1a\n",
        "broken.seg.png": truth_png(0, size),
    }
    (tmp_path / "bad.tar").write_bytes(tar_bytes(members))
    words = [tmp_path / "bad.tar", tmp_path / "out", "--model", small_model, "--vocabulary", vocabulary, *QUICK]
    assert evaluate(*words) == 1
    assert "4 of 5 images failed (1 bad_truth, 1 no_truth, 1 truth_size, 1 undecodable)" in capsys.readouterr().err
    found = {row["key"]: row for row in ds.dataset(tmp_path / "out" / "images").to_table().to_pylist()}
    assert "holds 5, which is no class" in found["value"]["error"]
    assert f"{size[0]} × {size[1]} pixels, the image {size[1]} × {size[0]}" in found["size"]["error"]
    assert [found["000000"]["status"], results(tmp_path / "out")["images_evaluated"]] == ["ok", 1]
    assert "Not evaluated" in (tmp_path / "out" / "report.html").read_text()
    assert evaluate(*words, "--max-failed", "0.9") == 0
    assert evaluate(*words[:1], tmp_path / "ignored", *words[2:], "--truth-ignore", "5", "--max-failed", "0.9") == 0
    assert results(tmp_path / "ignored")["images_evaluated"] == 2


def test_truth_of_0_and_255_alone_is_said(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = {}
    for seed in range(2):
        buffer = io.BytesIO()
        Image.fromarray(np.triu(np.full(SIZES[seed], 255, np.uint8))).save(buffer, "PNG")
        members |= {f"{seed}.png": encoded(seed), f"{seed}.seg.png": buffer.getvalue()}
    (tmp_path / "masks.tar").write_bytes(tar_bytes(members))
    assert evaluate(tmp_path / "masks.tar", tmp_path / "out", *flags) == 0
    assert "scclip evaluate: the ground truth holds only 0 and 255" in capsys.readouterr().err
    for name in ("results.md", "report.html"):
        assert "the ground truth holds only 0 and 255" in (tmp_path / "out" / name).read_text()


def test_equal_queries_give_the_lower_class(shards: Path, small_model: str, tmp_path: Path) -> None:
    """As in coco_object, "bed" is a query of the background and a class: no pixel is ever labeled a bed."""
    names = "".join(f"  - {name}\n" for name in ("car", "bed", "person", "tree"))
    path = tmp_path / "beds.yaml"
    path.write_text(f"name: beds\nbackground: [sky, bed]\nclasses:\n{names}templates: ['{{}}']\n")
    words = ["--model", small_model, "--vocabulary", path, *QUICK]
    assert evaluate(shards, tmp_path / "out", *words, "--variants", *VARIANTS[:2]) == 0
    for matrix in confusions(tmp_path / "out").values():
        assert np.array(matrix)[2].sum() > 0 and np.array(matrix)[:, 2].sum() == 0


def test_a_benchmark_says_what_is_not_its_protocol(
    shards: Path, small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [shards, tmp_path / "out", "--benchmark", "cityscapes", "--model", small_model, "--limit", "1"]
    assert evaluate(*words, "--short-side", "64", "--window-batch", "1", "--logit-scale", "30") == 0
    out = capsys.readouterr().out
    for part in ("not the protocol of cityscapes", "short side 64, not 560", "logit scale 30.0, not 40.0"):
        assert part in out
    assert "a tower of 12 blocks" in out and "1 image, not 500" in out and "published" not in out
    assert results(tmp_path / "out")["protocol"] is False
    truth = json.loads((tmp_path / "out" / "run.json").read_text())["evaluation"]["truth"]
    assert truth == {"extension": "seg.png", "offset": 1, "ignore": []}


def test_verbs_for_labels_refuse_an_evaluation(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify"], ["report"], ["evaluate", "--truth", "x", "--labels"]):
        assert main([*words, str(evaluated)]) == 2
        assert "holds an evaluation" in capsys.readouterr().err
    assert main(["status", str(evaluated)]) == 0
    assert "8 read, 8 labeled, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("layers", sorted(BACKBONES))
@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_settings_are_the_protocols(name: str, layers: int) -> None:
    model = {12: "ViT-B-16-quickgelu", 24: "ViT-L-14-quickgelu"}[layers]
    source = WeightsSource(
        config=ModelConfig(model=model), open_clip_name=model, file=Path(), digest="", quick_gelu=False, settings={}
    )
    assert architecture(source).layers == layers
    benchmark, backbone = BENCHMARKS[name], BACKBONES[layers]
    wanted = benchmark.settings(backbone)
    given = protocol_options(benchmark, backbone, SegmentationOptions())
    options = EvaluateOptions(paths=("shards", "out"), benchmark=name).as_label()
    assert options.exif == "apply"
    setup = LabelingSetup(options, source, given, ComputeConfig(), load_vocabulary(name), cuda=False)
    config = setup.segmenter
    found = (config.short_side, config.logit_scale, config.confidence_threshold, config.area_threshold)
    assert found == (benchmark.short_side, wanted.logit_scale, wanted.threshold, wanted.area_threshold)
    assert (config.window, config.stride, config.category_thresholds, config.pamr_steps) == (224, 112, (), 0)
    assert deviations(benchmark, backbone, setup) == ["not OpenAI's weights"]
    given = protocol_options(benchmark, backbone, SegmentationOptions(confidence_threshold=0.05))
    other = deviations(benchmark, backbone, replace(setup, segmentation=given))
    assert other[0].startswith("confidence threshold 0.05, not ")
    as_stored = replace(setup, options=replace(options, exif="ignore"))
    assert deviations(benchmark, backbone, as_stored)[-1] == "EXIF orientation ignored"


def test_protocols_round_the_normalisation_in_levels() -> None:
    rounded = in_levels(SegmenterConfig())
    assert [255 * value for value in rounded.mean] == pytest.approx([122.771, 116.746, 104.094], rel=1e-12)
    assert [255 * value for value in rounded.std] == pytest.approx([68.501, 66.632, 70.323], rel=1e-12)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "SHARDS and OUTPUT"),
        (["only-one"], "SHARDS and OUTPUT"),
        (["in", "out"], "--benchmark NAME or --vocabulary"),
        (["in", "out", "--benchmark", "voc20", "--vocabulary", "voc20"], "--benchmark NAME or --vocabulary"),
        (["in", "out", "--benchmark", "voc22"], "did you mean voc21?"),
        (["/nowhere", "out", "--vocabulary", "demo"], "/nowhere"),
        (["in", "out", "--vocabulary", "demo", "--variants", "dino"], "maskclip+fusion"),
        (["in", "out", "--vocabulary", "demo", "--variants", "clip", "clip"], "twice"),
        (["in", "out", "--vocabulary", "demo", "--variants", "clip", "--method", "clip"], "--method"),
        (["in", "out", "--vocabulary", "demo", "--truth", "x"], "--labels"),
        (["in", "out", "--vocabulary", "demo", "--truth-ignore", "x"], "'x' is not a whole number"),
        (["in", "out", "--vocabulary", "demo", "--truth-indices", "names"], "classes, categories"),
        (["in", "out", "--vocabulary", "demo", "--limit", "0"], "--limit"),
        (["in", "out", "--vocabulary", "demo", "--pictures", "99"], "--pictures"),
        (["--labels", "run"], "--truth SHARDS"),
        (["--labels", "/nowhere", "--truth", "x"], "holds no run"),
        (["--labels", "run", "--truth", "x", "--benchmark", "voc20"], "leave --benchmark"),
        (["--labels", "run", "--truth", "x", "--model", "ViT-B-16"], "leave options of model"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*words) == 2
    err = said(capsys.readouterr().err)
    assert len(err) == 1 and named in err[0], err
