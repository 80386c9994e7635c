"""The report of a run made by the real job: self-contained, escaped, bounded, and true to the run's files."""

import base64
import dataclasses
import io
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import encoded, tar_bytes, write_shard
from PIL import Image
from pycocotools import mask as coco_mask

from scclip.jobs.cli.main import main
from scclip.jobs.pages.comparison import render_comparison
from scclip.jobs.pages.evaluation import render_evaluation
from scclip.jobs.pages.run import render_run
from scclip.pipeline.annotations.palette import colour, css_colour
from scclip.pipeline.evaluation.results import Evaluation
from scclip.pipeline.review.drift import ChangedImage, Classes, Drift
from scclip.pipeline.review.gallery import ChangedPicture, WorstImage
from scclip.pipeline.review.images import FailedImage
from scclip.pipeline.review.report import ReportContent, ReportLimits, gather
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.totals import Totals

pytestmark = pytest.mark.usefixtures("local_ray")

HOSTILE = "<img src=x onerror=alert(1)>"
ATTACK = "\"'></h1><script>alert('x')</script><img src=x onerror=\"alert(1)\">&lt;{{ 7 * 7 }}{% if %}"
SIZES = [(120, 160), (160, 120), (64, 64)]


class Page(HTMLParser):
    """Tags, attribute values and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def structure(self) -> list[tuple[str, list[str]]]:
        """Tags and the names of their attributes."""
        return [(tag, list(attributes)) for tag, attributes in self.tags]

    def pictures(self) -> list[bytes]:
        links = [attributes.get("href") or "" for tag, attributes in self.tags if tag == "image"]
        return [base64.b64decode(link.partition(",")[2]) for link in links]


def truth_png(size: tuple[int, int]) -> bytes:
    """Left half category 1, right half 2, one ignored row."""
    labels = np.ones(size, np.uint8)
    labels[:, size[1] // 2 :] = 2
    labels[0] = 255
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shard `a` has truth, a hostile key and two broken images; shard `b` is plain."""
    root = tmp_path_factory.mktemp("inputs")
    members: dict[str, bytes] = {}
    for seed, size in enumerate(SIZES):
        members |= {f"{HOSTILE}{seed}.png": encoded(seed, size), f"{HOSTILE}{seed}.seg.png": truth_png(size)}
    broken = {"broken <b>.jpg": b"\xff\xd8\xff\xe0 no picture", "empty.png": b""}
    (root / "a.tar").write_bytes(tar_bytes(members | broken))
    write_shard(root / "b.tar", range(3, 6))
    return root


@pytest.fixture(scope="module")
def output(inputs: Path, small_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    words = root / "words.txt"
    words.write_text("<script>alert('x')</script>\nroad & \"rail\"\nperson\ntree\n")
    flags = ["--model", small_model, "--precision", "float32", "--vocabulary", str(words), "--max-failed", "0.5"]
    assert main(["label", str(inputs), str(root / "out"), *flags]) == 0
    return root / "out"


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    assert main(["report", str(output)]) == 0
    return (output / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched_and_nothing_from_data_is_markup(page: str) -> None:
    parsed = Page(page)
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("script") == 2  # the names of the classes, and what works with them
    assert not {"img", "b", "link", "iframe", "object"} & set(tags)
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "poster"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:image/", "#photo")), (tag, link)
    code = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page)
    assert "http:" not in code and "https:" not in code and "url(" not in code and "@import" not in code
    assert HOSTILE in parsed.text and "<script>alert('x')</script>" in parsed.text and 'road & "rail"' in parsed.text


def attacked(value: Any) -> Any:
    """The value with ATTACK after every text in it, at any depth; the keys of mappings stay."""
    if isinstance(value, str):
        return value + ATTACK
    if isinstance(value, Mapping):
        changed = {key: attacked(entry) for key, entry in value.items()}
        return type(value)(changed)
    if isinstance(value, (list, tuple)):
        return type(value)(map(attacked, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: attacked(getattr(value, name)) for name in fields})
    return value


def assert_same_structure(page: str, attacked_page: str, least: int) -> None:
    """The texts changed nothing but texts and attribute values, and are shown as they are, `least` times or more."""
    plain, parsed = Page(page), Page(attacked_page)
    assert parsed.structure == plain.structure
    assert "".join(parsed.words).count(ATTACK) >= least


def test_texts_of_users_are_never_markup_on_a_runs_page(output: Path) -> None:
    """Names of vocabulary, classes, queries and model, keys, file names, statuses, errors, URLs, notes."""
    content = dataclasses.replace(gather(RunFiles(str(output)), ReportLimits()), notes=["a.tar is gone"])
    assert content.failures and content.pictures and content.curation
    changed = attacked(content)
    changed.totals = content.totals
    names = content.run.names
    matrix = np.arange(1, 1 + (max(names) + 1) * (max(names) + 2)).reshape(max(names) + 1, -1)
    plain = Evaluation(
        title="five", model="ViT", names=names, matrices={"x": matrix}, statuses={"ok": 6}, deviations=("side 64",)
    )
    least = 3 * len(names) + len(content.failures) * 3 + len(content.pictures)
    evaluation = dataclasses.replace(attacked(plain), matrices={f"x{ATTACK}": matrix}, statuses={"ok": 6})
    assert_same_structure(render_run(content, plain), render_run(changed, evaluation), least)


def test_texts_of_users_are_never_markup_on_other_pages(output: Path) -> None:
    """An evaluation's title, model, names, variants, deviations and failures; a comparison's runs, names and keys."""
    content = gather(RunFiles(str(output)), ReportLimits())
    names, picture = content.run.names, content.pictures[0]
    matrix = np.arange(1, 1 + (max(names) + 1) * (max(names) + 2)).reshape(max(names) + 1, -1)
    plain = Evaluation(
        title="five",
        model="s3://bucket/run",
        names=names,
        matrices={"x": matrix},
        statuses={"ok": 6, "no_truth": 1},
        deviations=("side 64",),
    )
    worst = [dataclasses.replace(picture, choice=WorstImage(0.1, picture.choice.image))]
    failures = [FailedImage(file_name="x.png", status="no_truth", error="it has no truth")]
    evaluation = dataclasses.replace(attacked(plain), matrices={f"x{ATTACK}": matrix}, statuses=plain.statuses)
    assert_same_structure(
        render_evaluation(plain, worst, ["x.tar is gone"], failures, demo=True),
        render_evaluation(evaluation, attacked(worst), attacked(["x.tar is gone"]), attacked(failures), demo=True),
        len(names) + 7,
    )

    classes = Classes.of({1: "car", 2: "road"}, {1: "road", 2: "lamp"})
    drift = Drift(np.arange(16).reshape(4, 4), compared=2)
    changed = ChangedPicture(
        choice=ChangedImage(0.5, picture.choice.image, picture.choice.image),
        size=picture.size,
        photo=picture.photo,
        masks=(picture.labels,) * 3,
        areas=((0, 0.5, 0.1), (2, 0.1, 0.5)),
    )
    runs = ("s3://bucket/a", "s3://bucket/b")
    assert_same_structure(
        render_comparison(drift, classes, runs, [changed], ["b.tar is gone"], demo=True),
        render_comparison(
            drift, attacked(classes), attacked(runs), attacked([changed]), attacked(["b.tar is gone"]), demo=True
        ),
        3 + 2 + 2 + 1 + 1,
    )


def test_the_page_tells_what_the_files_hold(page: str, output: Path) -> None:
    """Every status, every failed image with its reason, every class with its share, the weights' digest."""
    text = Page(page).text
    rows = pq.read_table(output / "images").to_pylist()
    for row in rows:
        assert row["status"] in text
        if row["status"] != "ok":
            assert row["file_name"] in text and row["error"] in text
    assert len({row["status"] for row in rows}) >= 3
    run = gather(RunFiles(str(output)), ReportLimits()).run.manifest
    assert run.model.weights_sha256[:16] in text and run.versions["torch"] in text
    segments = pq.read_table(output / "segments")
    content = gather(RunFiles(str(output)), ReportLimits())
    assert sum(int(counts.sum()) for counts in content.confidence.values()) == len(segments)
    for category, name in run.categories.items():
        assert name in text and css_colour(category) in page


def test_pictures_show_the_runs_labels_and_the_truth(page: str, output: Path) -> None:
    """Each mask, at its own size here, against pycocotools on the run's RLEs and against the truth's halves."""
    content = gather(RunFiles(str(output)), ReportLimits())
    assert not content.notes and len(content.pictures) == 6
    segments = pq.read_table(output / "segments").to_pylist()
    embedded = Page(page).pictures()
    for picture in content.pictures:
        width, height = picture.size
        wanted = np.zeros((height, width, 4), np.uint8)
        for segment in segments:
            if segment["image_id"] == picture.choice.image.image_id:
                mask = coco_mask.decode({"size": segment["rle"]["size"], "counts": segment["rle"]["counts"]})
                wanted[mask.astype(bool)] = (*colour(segment["category_id"]), 255)
        shown = np.asarray(Image.open(io.BytesIO(picture.labels)))
        edge = (shown == 255).all(axis=2)  # the class that the picture is shown for has a white edge
        assert (wanted[edge] == (*colour(picture.choice.category), 255)).all() and edge.mean() < 0.5
        np.testing.assert_array_equal(shown[~edge], wanted[~edge])
        assert picture.photo in embedded and picture.labels in embedded
        assert (picture.truth is not None) == (HOSTILE in picture.choice.image.key)
        if picture.truth:
            truth = np.asarray(Image.open(io.BytesIO(picture.truth)))
            assert truth[0].max() == 0 and (truth[1:, : width // 2, :3] == colour(1)).all()
            assert (truth[1:, width // 2 :, :3] == colour(2)).all()
            same = (wanted[1:] == truth[1:]).all(axis=2).mean()
            assert picture.agreement == pytest.approx(same)


def test_without_the_inputs_the_page_says_so(output: Path, inputs: Path) -> None:
    """One shard gone, the other one changed: no picture, two reasons, everything else as before."""
    names = ("a.tar", "b.tar")
    for name in names:
        (inputs / name).rename(inputs / f"{name}.kept")
    (inputs / "b.tar").write_bytes(b"another shard")
    try:
        content = gather(RunFiles(str(output)), ReportLimits())
    finally:
        for name in names:
            (inputs / f"{name}.kept").rename(inputs / name)
    text = Page(render_run(content)).text
    assert content.pictures == [] and len(content.notes) == 2
    assert "a.tar is gone" in text and "b.tar has changed" in text
    assert "Images by status" in text and content.totals.labeled == 6


def test_limits_hold(output: Path) -> None:
    """Fewer pictures than images: each class in turn; a byte limit takes evenly; one unit of two."""
    three = gather(RunFiles(str(output)), ReportLimits(pictures=3, side=40))
    assert len(three.pictures) == 3 and all(max(picture.size) <= 40 for picture in three.pictures)
    few = gather(RunFiles(str(output)), ReportLimits(picture_bytes=8_000)).pictures
    assert 0 < sum(len(picture.photo) + len(picture.labels) + len(picture.truth or b"") for picture in few) <= 8_000
    one = gather(RunFiles(str(output)), ReportLimits(units=1, picture_units=1, failures=1))
    assert one.sampled < 2 or one.totals.read == 8
    assert len(one.failures) <= 1 and one.totals.read == 8


def test_no_run_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--pictures", "4000"]) == 2
    assert "--pictures 4000" in capsys.readouterr().err


def test_a_run_without_a_finished_unit_still_has_a_page(output: Path) -> None:
    """It says how far the run is, and, for the bundled model, what that model knows."""
    content = gather(RunFiles(str(output)), ReportLimits())
    assert "drawn scenes" not in render_run(content)
    manifest = content.run.manifest
    demo = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, model="demo"))
    run = dataclasses.replace(content.run, manifest=demo)
    empty = ReportContent(run=run, finished=0, sampled=0, totals=Totals())
    text = Page(render_run(empty)).text
    assert "not complete" in text and "0 of 2 units" in text and "trained on drawn scenes" in text
