"""Words of a command line: several values before words by position, misspelt flags, how much is said."""

import logging
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from scclip.errors import UserError
from scclip.jobs.cli.main import VERBS, main
from scclip.jobs.cli.talk import is_quiet, is_verbose, say, set_loudness
from scclip.jobs.options import evaluate, export, label, submit
from scclip.jobs.submission.request import Request


@pytest.fixture(autouse=True)
def loudness() -> object:
    yield
    set_loudness()


@pytest.mark.parametrize(
    ("words", "paths", "truth"),
    [
        ("--labels RUN --truth A OUT", ("OUT",), ("A",)),
        ("--truth A OUT --labels RUN", ("OUT",), ("A",)),
        ("--truth A --truth B OUT --labels RUN", ("OUT",), ("A", "B")),
        ("--truth=A --truth=B OUT --labels=RUN", ("OUT",), ("A", "B")),
        ("OUT --labels RUN --truth A B C", ("OUT",), ("A", "B", "C")),
        ("--labels RUN --truth A", (), ("A",)),
        ("--labels RUN --truth A -- OUT", ("OUT",), ("A",)),
        ("--labels RUN --truth A --truth-ignore 7 -1 OUT", ("OUT",), ("A",)),
    ],
)
def test_truth_leaves_the_output_alone(words: str, paths: tuple[str, ...], truth: tuple[str, ...]) -> None:
    options, *_ = evaluate.parser().parse(words.split())
    assert (options.paths, options.truth) == (paths, truth)


@pytest.mark.parametrize(
    "words",
    [
        "S OUT --benchmark voc20 --variants scclip maskclip clip --without post fusion --truth-ignore 1 2",
        "--benchmark voc20 --variants scclip maskclip clip --without post fusion --truth-ignore 1 2 S OUT",
        "--variants scclip maskclip clip S OUT --without post fusion --truth-ignore 1 2 --benchmark voc20",
        "--without post fusion S --truth-ignore 1 2 --variants scclip maskclip clip --benchmark voc20 -- OUT",
    ],
)
def test_choices_and_numbers_end_where_paths_begin(words: str) -> None:
    options, model, *_ = evaluate.parser().parse(words.split())
    assert options.paths == ("S", "OUT") and options.truth_ignore == (1, 2)
    assert options.variants == ("scclip", "maskclip", "clip") and model.without == ("post", "fusion")


def test_several_paths_after_truth_are_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="at most one path, OUTPUT; repeat --truth for several shards"):
        evaluate.parser().parse(["--labels", "RUN", "--truth", "A", "B", "C"])


def test_a_shard_is_not_taken_for_the_output(tmp_path: Path) -> None:
    """`--truth shards/*.tar`, as a shell spells it out."""
    shards = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for shard in shards:
        shard.touch()
    with pytest.raises(UserError, match=r"b.tar is a file; give a directory, and repeat --truth for several shards"):
        evaluate.parser().parse(["--labels", "RUN", "--truth", *map(str, shards)])


def test_names_without_words_by_position_stay_together() -> None:
    _, options = submit.parser().parse(["--no-wait", "--pass-env", "ONE", "TWO", "THREE"])
    assert options.pass_env == ("ONE", "TWO", "THREE")


def test_what_submit_spells_out_means_the_same() -> None:
    """The words of a job are parsed again on the cluster."""
    words = [
        "evaluate",
        "--labels",
        "s3://b/run",
        "--truth",
        "s3://b/A",
        "s3://b/out",
        "--truth",
        "s3://b/B",
        "--truth-ignore",
        "3",
        "4",
    ]
    request = Request.parse(words)
    options, *_ = evaluate.parser().parse(words[1:])
    again, *_ = evaluate.parser().parse(request.words)
    assert options == again and options.truth == ("s3://b/A", "s3://b/B") and options.truth_ignore == (3, 4)


def test_flags_win_over_lists_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("truth: [A, B]\nlabels: RUN\ntruth-ignore: [1, 2]\n")
    config = ["--config", str(tmp_path / "c.yaml")]
    options, *_ = evaluate.parser().parse([*config, "OUT"])
    assert (options.truth, options.truth_ignore, options.paths) == (("A", "B"), (1, 2), ("OUT",))
    options, *_ = evaluate.parser().parse(["--truth", "C", *config, "--truth-ignore=5", "OUT"])
    assert (options.truth, options.truth_ignore, options.paths) == (("C",), (5,), ("OUT",))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("label in out --vocabluary x", "unknown option --vocabluary; did you mean --vocabulary?"),
        ("label in out --vocabluary=x", "unknown option --vocabluary; did you mean --vocabulary?"),
        ("label in out -vocabulary x", "unknown option -vocabulary; did you mean --vocabulary?"),
        ("label in out --save_confidence", "unknown option --save_confidence; did you mean --save-confidence?"),
        ("label in out --mask png", "unknown option --mask; did you mean --masks?"),
        ("label in out --masks pgn", "--masks 'pgn' is unknown; did you mean png?"),
        ("label in out --frobnicate", "unknown option --frobnicate; see scclip label --help"),
        ("label in out -x", "unknown option -x; see scclip label --help"),
        ("export run out --format panoptic-coco", "--format 'panoptic-coco' is unknown; did you mean coco-panoptic?"),
        ("evaluate S OUT --benchmark voc20 --variants scclip maskclp", "'maskclp' is unknown; did you mean maskclip?"),
        ("evaluate --variants scclip maskclp S OUT --benchmark voc20", "'maskclp' is unknown; did you mean maskclip?"),
        ("shard citiscapes in out", "unknown dataset 'citiscapes'; did you mean cityscapes?"),
        ("submit stauts s3://b/out", "submit stauts: unknown; did you mean status?"),
        ("submit -- labl in out", "not 'labl'; did you mean label?"),
        ("bench modle", "unknown benchmark 'modle'; did you mean model?"),
        ("bench model --dtype bf16", "unknown option --dtype; did you mean --dtypes?"),
        ("prewiev in", "unknown verb 'prewiev'; did you mean preview?"),
    ],
)
def test_a_misspelt_word_suggests_the_right_one(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert meant in said and len(said.splitlines()) == 1


def test_a_misspelt_key_of_a_file_suggests_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("chunk-sise: 3\n")
    with pytest.raises(UserError, match="unknown option 'chunk-sise'; did you mean chunk_size"):
        label.parser().parse(["in", "out", "--config", str(tmp_path / "c.yaml")])


def test_words_behind_the_dashes_are_no_flags() -> None:
    options, *_ = label.parser().parse(["in", "--", "--odd-folder", "out"])
    assert (options.inputs, options.output) == (("in", "--odd-folder"), "out")


@pytest.mark.parametrize("words", [["--version"], ["label", "--version"], ["label", "in", "--version", "out"]])
def test_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"scclip-pipeline {version('scclip-pipeline')}, Python ")


@pytest.mark.parametrize(("flag", "quiet", "verbose"), [("", False, False), ("-q", True, False), ("-v", False, True)])
def test_loudness(flag: str, quiet: bool, verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("status", "label", "export", "verify", "evaluate"):
        assert name in VERBS
    export.parser().parse(["run", "out", *([flag] if flag else [])])
    assert (is_quiet(), is_verbose()) == (quiet, verbose)
    say("a note")
    say("another", sys.stderr)
    assert capsys.readouterr() == (("", "") if quiet else ("a note\n", "another\n"))
    request = Request.parse(["verify", "s3://bucket/run", *([flag] if flag else [])])
    assert set(request.words) - {"s3://bucket/run"} == {"-q": {"--quiet"}, "-v": {"--verbose"}}.get(flag, set())
    assert logging.getLogger("scclip").isEnabledFor(logging.WARNING)


def test_verbose_shows_where_an_error_is_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*options: object) -> int:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("scclip.jobs.status.status", fail)
    assert main(["status", "run"]) == 1
    assert "(-v shows the traceback)" in (short := capsys.readouterr().err) and len(short.splitlines()) == 1
    assert main(["status", "run", "-v"]) == 1
    assert "Traceback" in (full := capsys.readouterr().err) and full.splitlines()[-1].startswith("scclip status: ")
