"""`--dry-run`: a sample that holds everything foretells exactly what the run then finds, and nothing is left behind."""

import json
import re
from pathlib import Path

import pytest
from pictures import write_shard
from processes import QUICK

from scclip.jobs.cli.main import main

pytestmark = pytest.mark.usefixtures("local_ray")


def test_the_table_foretells_the_run(
    small_model: str, vocabulary_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / "in" / "a.tar", range(5))
    write_shard(tmp_path / "in" / "b.tar", range(5, 8), {"broken.jpg": b"\xff\xd8\xff\xe0 no picture"})
    flags = [
        "--model",
        small_model,
        "--vocabulary",
        str(vocabulary_file),
        *QUICK,
        "--masks",
        "png",
        "--max-failed",
        "1",
    ]
    words = ["label", str(tmp_path / "in"), str(tmp_path / "out"), *flags]
    assert main([*words, "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert f"{summary['images_read']} images\n" in table and "8 images labeled" not in table.split("sample")[0]
    assert re.search(r"sample +9 images labeled, 1 failed", table), table
    assert f"windows     about {summary['windows']:,}\n" in table
    size = sum(
        path.stat().st_size
        for kind in ("images", "segments", "coco", "masks")
        for path in (tmp_path / "out" / kind).iterdir()
    )
    foretold = float(re.search(r"result +about ([\d.]+) kB", table).group(1)) * 1000  # type: ignore[union-attr]
    assert foretold == pytest.approx(size, rel=0.05)
    assert summary["bottleneck"] in summary["stages"] and summary["stages"]["label"]["busy_seconds"] > 0
    capsys.readouterr()
    assert main([*words, "--dry-run"]) == 0
    assert "nothing to do" in capsys.readouterr().out
