"""Kills in small numbers: nothing is lost, nothing repeated. tests/chaos does every kind by the hundred."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pictures import write_shard, write_shards
from processes import contents, quick_flags, run, said

from scclip.jobs.cli.main import main
from scclip.pipeline.inputs.groups import grouped
from scclip.pipeline.inputs.plan import plan_units

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))
from harness import EXITS, Life


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of six pictures, and 32 of one, which share tasks."""
    folder = write_shards(tmp_path_factory.mktemp("kills") / "in", 3, 6)
    for seed in range(18, 50):
        write_shard(folder / f"one-{seed}.tar", range(seed, seed + 1))
    assert len(next(grouped(plan_units([str(folder)])))) == 2
    return folder


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    return quick_flags(small_model, vocabulary_file, "--chunk-size", "2", "--masks", "png")


@pytest.fixture(scope="module")
def undisturbed(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(["label", str(shards), str(output), *flags]) == 0
    return output


@pytest.mark.parametrize(
    ("kinds", "parts", "end"),
    [
        (("actor", "commit", "decode"), 1, "driver"),
        pytest.param(("finish",), 6, "raylet", marks=pytest.mark.slow),
    ],
)
def test_workers_driver_and_raylet(
    kinds: Sequence[str], parts: int, end: str, shards: Path, flags: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    """A life loses three kinds of worker, then its driver; another a finishing task, then its Ray."""
    output, chance, words = tmp_path / "out", random.Random(5), ["label", shards, tmp_path / "out", *flags]
    life = Life(words)
    for kind in kinds:
        life.harm(kind, chance)
    life.wait_for_parts(output, parts)
    life.harm(end, chance)
    code, err = life.end()
    assert code in EXITS[end] | {0}, (end, err)
    assert "Traceback" not in err, err
    assert main([*map(str, words)]) == 0
    assert contents(output) == contents(undisturbed)
    assert not list(output.glob("_parts/**/*.parquet"))
    assert main(["verify", str(output)]) == 0


@pytest.mark.slow
def test_two_drivers_at_once(
    shards: Path, flags: list[str], undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", shards, tmp_path / "out", *flags]
    other = Life(words)
    while other.alive() and not (tmp_path / "out" / "run.json").exists():  # next it starts its actor, as this one does
        time.sleep(0.01)
    assert main([*map(str, words)]) == 0
    assert other.end()[0] == 0
    capsys.readouterr()
    assert main([*map(str, words)]) == 0 and "nothing to do" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(undisturbed)
    assert not list((tmp_path / "out").glob("_parts/**/*.parquet"))


@pytest.mark.chaos
def test_a_full_disk_stops_the_job_and_room_lets_it_go_on(
    shards: Path, flags: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs")
    try:
        words = ["label", shards, disk / "out", *flags]
        code, _, err = run(words)
        assert (code, len(said(err))) == (1, 1) and "Traceback" not in err, err
        assert "No space left" in err and "goes on" in err, err
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert main([*map(str, words)]) == 0
        assert contents(disk / "out") == contents(undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
