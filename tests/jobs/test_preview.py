"""`scclip preview`: a few pictures spread over the input, labeled without Ray; a page, and nothing else is left."""

import re
from pathlib import Path

import pytest
import ray
from pictures import encoded, write_shard
from processes import QUICK

from scclip.jobs.cli.main import main
from scclip.jobs.preview import some_of
from scclip.pipeline.inputs.plan import plan_units


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures in a folder, one of them broken, and two shards of nine."""
    root = tmp_path_factory.mktemp("previewed")
    (root / "photos").mkdir()
    for index in range(30):
        data = b"\xff\xd8\xff\xe0 none" if index == 0 else encoded(index, (48, 64))
        (root / "photos" / f"{index:03d}.png").write_bytes(data)
    for number in range(2):
        write_shard(root / f"{number}.tar", range(9 * number, 9 * number + 9))
    return root


def test_pictures_are_spread_over_the_input(inputs: Path) -> None:
    units = plan_units([str(inputs)])
    assert len(units) == 3
    for images in (1, 2, 3, 7, 24, 48):
        cut = some_of(units, images)
        assert sum(len(unit.files) or unit.image_limit or 0 for unit in cut) == images
    photos = plan_units([str(inputs / "photos")])
    names = [int(file.key) for unit in some_of(photos, 10) for file in unit.files]
    assert names == list(range(0, 30, 3))
    assert sum(len(unit.files) for unit in some_of(photos, 48)) == 30


def test_a_page_and_nothing_else(
    inputs: Path,
    small_model: str,
    vocabulary_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("a preview starts no Ray"))
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in inputs.rglob("*"))
    words = ["preview", str(inputs / "photos"), "--vocabulary", str(vocabulary_file), "--model", small_model, *QUICK]
    assert main([*words, "--images", "6"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'preview.html'}\n" and "5 images labeled, 1 failed" in said.err
    page = (tmp_path / "preview.html").read_text()
    assert page.count("<article") == 5 and "none: a preview keeps no run" in page and "000.png" in page
    assert "<h1>Preview: street</h1>" in page and "<title>street: preview of 5 images</title>" in page
    assert page.index("<h1>") < page.index("<article") < page.index('class="tiles"') < page.index("<table")
    shown = [float(level) for level in re.findall(r"<h3>([\d.]+) confident</h3>", page)]
    assert len(shown) == 5 and shown == sorted(shown) and "(1 failed, see below)" in page
    assert [path.name for path in tmp_path.iterdir()] == ["preview.html"]
    assert sorted(path for path in inputs.rglob("*")) == before
    assert main([*words, "--images", "2", "--output", "other.html", "-q"]) == 0
    assert capsys.readouterr() == (f"{tmp_path / 'other.html'}\n", "")
    assert len(re.findall("<article", (tmp_path / "other.html").read_text())) == 1


def test_an_image_without_any_segment_is_shown_too(inputs: Path, small_model: str, tmp_path: Path) -> None:
    """With a threshold that no pixel reaches, all is background."""
    (tmp_path / "sure.yaml").write_text(
        "background: [sky]\nclasses: [car, road]\ntemplates: ['a {}.']\nthreshold: 0.999\n"
    )
    words = ["--vocabulary", str(tmp_path / "sure.yaml"), "--model", small_model, "--output", str(tmp_path / "p.html")]
    assert main(["preview", str(inputs / "0.tar"), *words, *QUICK, "--images", "3"]) == 0
    page = (tmp_path / "p.html").read_text()
    assert page.count("<article") == 3 and "<dt>Segments</dt><dd>0" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "0"], "--images 0 must be 1 to 48"),
        (["--vocabulary", "nothing.txt"], "nothing.txt"),
        (["--short-side", "0"], "short_side 0 must be at least 1"),
    ],
)
def test_what_is_wrong_is_one_line(
    inputs: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", str(inputs / "photos"), *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1] and said[-1].startswith("scclip preview: ")
