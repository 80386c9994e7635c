"""Several jobs, and other people's work, on one cluster of two CPUs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import write_shards
from processes import contents, quick_flags, run, start
from rayhead import cluster, somebody

pytestmark = pytest.mark.cluster

TIMEOUT = 400


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[str]:
    """`--address` of a cluster of two CPUs."""
    with cluster(2) as (_, address):
        yield address


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), 3, 6)


@pytest.fixture(scope="module")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    return quick_flags(small_model, vocabulary_file, "--chunk-size", "2")


@pytest.fixture(scope="module")
def alone(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a Ray that nobody else uses."""
    output = tmp_path_factory.mktemp("runs") / "alone"
    code, _, err = run(["label", shards, output, *flags], timeout=TIMEOUT)
    assert code == 0, err
    return output


def wait_until(true: "object", seconds: float) -> float:
    """Seconds until `true()` holds."""
    began = time.monotonic()
    while not true():  # type: ignore[operator]
        assert time.monotonic() - began < seconds, "it took too long"
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.parametrize("actors", [[], ["--actors", "1:2"]])
def test_two_jobs_on_two_cpus_both_end(
    shared_ray: str, shards: Path, flags: list[str], alone: Path, tmp_path: Path, actors: list[str]
) -> None:
    words = [*flags, "--address", shared_ray, *actors]
    jobs = [start(["label", shards, tmp_path / name, *words]) for name in ("first", "second")]
    said = [job.communicate(timeout=TIMEOUT)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert contents(tmp_path / "first") == contents(tmp_path / "second") == contents(alone)
    assert not list(tmp_path.glob("*/_waiting.json"))


def test_a_full_cluster_is_told_and_its_end_awaited(
    shared_ray: str, shards: Path, flags: list[str], alone: Path, tmp_path: Path
) -> None:
    output, log, leave = tmp_path / "labels", tmp_path / "err.log", tmp_path / "leave"
    with somebody(shared_ray, leave), log.open("w") as file:
        job = start(["label", shards, output, *flags, "--address", shared_ray], stderr=file)
        note = output / "_waiting.json"
        wait_until(note.exists, 90)
        wait_until(lambda: "2 of 2 CPUs are in use by others" in log.read_text(), 30)
        code, out, _ = run(["status", output])
        assert code == 0 and "waiting" in out and "2 of 2 CPUs are in use by others" in out
        assert job.poll() is None and not (output / "run.json").exists()
        leave.touch()
        assert job.wait(TIMEOUT) == 0, log.read_text()
    assert contents(output) == contents(alone) and not note.exists()
