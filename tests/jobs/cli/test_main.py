"""A command whose output nobody reads any more: `scclip status RUN | head -1`; one that is told twice to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in_runs import numbered, stand_in_run, write_tar


def unread(command: list[str], stdout: bool = True, stderr: bool = False, **environment: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command; of what is True, the reader has gone before it begins."""
    gone, into = os.pipe()
    os.close(gone)
    try:
        ran = subprocess.run(
            [sys.executable, *command],
            stdout=into if stdout else subprocess.PIPE,
            stderr=into if stderr else subprocess.PIPE,
            text=True,
            env=os.environ | environment,
            timeout=120,
            check=False,
        )
    finally:
        os.close(into)
    return ran.returncode, ran.stdout or "", ran.stderr or ""


@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", [["--help"], ["export", "--help"], ["status", "RUN"]], ids=" ".join)
def test_a_reader_that_is_gone_is_no_error(tmp_path: Path, words: list[str], buffered: str) -> None:
    if "RUN" in words:
        stand_in_run(tmp_path / "run", [write_tar(tmp_path / "in.tar", numbered(["a.png"]))])
        words = [words[0], str(tmp_path / "run")]
    code, *said = unread(["-m", "scclip", *words], PYTHONUNBUFFERED=buffered)
    assert said == ["", ""] and code in (0, 141)  # without a buffer it is argparse that passes over it


def test_an_error_that_nobody_reads_ends_quietly() -> None:
    assert unread(["-m", "scclip", "lable"], stderr=True) == (141, "", "")


def test_a_broken_connection_is_an_error() -> None:
    """Only the command's own output may break: other pipes are of the network."""
    script = (
        "import sys, scclip.jobs.status as status, scclip.jobs.cli.main as m\n"
        "def fail(*options): raise BrokenPipeError(32, 'Broken pipe')\n"
        "status.status = fail\n"
        "sys.exit(m.main(['status', 'run']))\n"
    )
    code, _, said = unread(["-c", script], stdout=False)
    assert code == 1 and "Broken pipe" in said and len(said.splitlines()) == 1


def test_a_second_sigterm_ends_at_once_and_says_how_to_go_on() -> None:
    slow = (
        "import signal, sys, time\n"
        "from scclip.jobs.cli.main import interrupt\n"
        "signal.signal(signal.SIGTERM, interrupt)\n"
        "try:\n    print('works', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('stops', flush=True); time.sleep(60)\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", slow], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stderr
        for word in ("works", "stops"):
            assert process.stdout.readline().strip() == word
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        (line,) = process.stderr.read().splitlines()
    assert line.startswith("scclip: stopped at once; run the same command again to go on")
