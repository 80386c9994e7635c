"""What only reads its words answers at once: no heavy library is imported, hardly any time is spent."""

import pytest
from processes import outcome

from scclip.jobs.cli.main import VERBS


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_is_light(words: list[str]) -> None:
    code, heavy, seconds, _ = outcome(words)
    assert (code, heavy) == (0, []) and seconds < 1, (heavy, seconds)


@pytest.mark.parametrize(
    "words",
    [
        ["lable"],
        ["label", "in", "out", "--vocabluary", "x"],
        ["label", "in", "out", "--max-failed", "7"],
        ["evaluate", "only-one"],
        ["export", "run", "out", "--val", "2"],
        ["shard", "nothing", "in", "out"],
        ["submit", "--", "label", "in", "s3://bucket/out"],
        ["status", "/nothing/here"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_said_at_once(words: list[str]) -> None:
    code, heavy, seconds, _ = outcome(words)
    assert (code, heavy) == (2, []) and seconds < 1, (heavy, seconds)
