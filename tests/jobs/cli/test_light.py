"""What only reads its words answers at once: no heavy library is imported, hardly any time is spent."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from scclip.jobs.cli.main import VERBS

SCRIPT = """
import json, resource, sys
from scclip.jobs.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code or 0
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = sorted({"torch", "ray", "open_clip", "scipy"} & set(sys.modules))
print(json.dumps({"code": code, "heavy": heavy, "seconds": used.ru_utime + used.ru_stime}))
"""


def outcome(words: Sequence[str]) -> tuple[int, list[str], float]:
    """(exit code, heavy modules that were imported, CPU seconds) of `scclip WORDS` in a fresh process."""
    command = [sys.executable, "-c", SCRIPT, *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(ran.stdout.splitlines()[-1])
    return said["code"], said["heavy"], said["seconds"]


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_is_light(words: list[str]) -> None:
    code, heavy, seconds = outcome(words)
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
    code, heavy, seconds = outcome(words)
    assert (code, heavy) == (2, []) and seconds < 1, (heavy, seconds)
