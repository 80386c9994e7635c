"""What a job waits for: its note in OUTPUT, and what `scclip status` makes of it."""

from pathlib import Path

import pytest
from stand_in_runs import stand_in_run, write_tar

from scclip.jobs.cli.main import main
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.waiting import note_url, read_note, remove_note, write_note


@pytest.fixture(params=["before the run has begun", "in a run"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> RunFiles:
    if request.param == "in a run":
        write_tar(tmp_path / "a.tar", [("a.png", 1)])
        stand_in_run(tmp_path / "run", [tmp_path / "a.tar"])
    (tmp_path / "run").mkdir(exist_ok=True)
    return RunFiles(str(tmp_path / "run"))


def test_status_tells_what_a_job_waits_for(files: RunFiles, capsys: pytest.CaptureFixture[str]) -> None:
    write_note(files, "waiting for 90 s: 4 of 4 CPUs are in use by others")
    assert main(["status", files.output]) == 0
    assert "for 90 s: 4 of 4 CPUs are in use by others (at 20" in capsys.readouterr().out
    remove_note(files)
    assert read_note(files) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"waits": 1, "at": 1}', b'{"waits": "", "at": 1e300}', b"\xff"]
)
def test_a_note_of_others_is_none(content: bytes, files: RunFiles, capsys: pytest.CaptureFixture[str]) -> None:
    Path(note_url(files)).write_bytes(content)
    assert read_note(files) is None
    assert main(["status", files.output]) in (0, 2)
    assert capsys.readouterr().err.count("\n") <= 1
