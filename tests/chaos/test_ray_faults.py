"""Harm to Ray itself during a job: servers lost, a full disk, stopped processes, drivers and jobs side by side.

The job ends by itself or goes on; what it has written is whole; the same command again gives the files of an
undisturbed run.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import run
from rayhead import head

sys.path.insert(0, str(Path(__file__).parent))
from harness import Life, complete, intact
from ray_cluster import RayCluster

pytestmark = pytest.mark.chaos
BOUND = 240.0  # seconds after its start in which a job that lost its Ray has ended; Ray gives a head up after 60
MINUTE = 60.0


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def words(shards: Path, flags: list[str], output: Path) -> list[str]:
    return ["label", str(shards), str(output), *flags]


def begun(words: list[str], output: Path, cluster: RayCluster | None = None) -> Life:
    """A job with two chunks committed."""
    life = Life(words, cluster=cluster)
    life.wait_for_parts(output, 2)
    assert life.alive()
    return life


def test_a_job_loses_the_gcs_of_its_own_ray(words: list[str], output: Path, reference: Path) -> None:
    life = begun(words, output)
    os.kill(life.servers("gcs_server")[0], signal.SIGKILL)
    assert life.end(BOUND)[0] == 1 and intact(output, reference)
    assert run(words)[0] == 0 and complete(output, reference)


@pytest.mark.parametrize("server", ["gcs_server", "raylet"])
def test_a_cluster_loses_a_server_of_its_head(server: str, words: list[str], output: Path, reference: Path) -> None:
    """The GCS, and the head with it; the raylet alone, to which the driver belongs. Then a head at the same address."""
    with RayCluster() as cluster:
        life = begun(words, output, cluster)
        if server == "raylet":
            cluster.kill_alone(cluster.servers(server)[0])
        else:
            os.kill(cluster.servers(server)[0], signal.SIGKILL)
        assert life.end(BOUND)[0] not in (0, None) and intact(output, reference)
        cluster.stop()
        cluster.start()
        assert run([*words, "--address", cluster.address])[0] == 0
    assert complete(output, reference)


def test_a_node_loses_its_raylet_alone(words: list[str], output: Path, reference: Path) -> None:
    """The job goes on with the other node; what the lost raylet's workers still write changes nothing."""
    with RayCluster(nodes=2) as cluster:
        life = begun(words, output, cluster)
        cluster.kill_alone(cluster.servers("raylet")[-1])
        code, err = life.end()
        assert code == 0, err
    assert complete(output, reference)


@pytest.mark.parametrize("kind", ["actor", "commit"])
def test_a_worker_stops_for_a_minute(kind: str, words: list[str], output: Path, reference: Path) -> None:
    life = begun(words, output)
    pid = life.one(kind)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(MINUTE)
    assert life.alive() and intact(output, reference)
    os.kill(pid, signal.SIGCONT)
    code, err = life.end()
    assert code == 0, err
    assert complete(output, reference)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder with room for 256 MB; its path is short because Ray's sockets are in it."""
    disk = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(disk)]
    try:
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("only root may mount a small tmpfs")
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)
        disk.rmdir()


def test_rays_temporary_disk_is_full(words: list[str], output: Path, reference: Path, small_disk: Path) -> None:
    """No worker can start meanwhile: the job waits and says so, and goes on once there is room."""
    life = Life(words, {"RAY_TMPDIR": str(small_disk)})
    life.wait_for_parts(output, 2)
    with contextlib.suppress(OSError), (small_disk / "fill").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(MINUTE)
    assert intact(output, reference)
    (small_disk / "fill").unlink()
    code, err = life.end()
    assert code in (0, 1) and intact(output, reference), err
    assert f"{small_disk}, where Ray keeps its logs and spilled objects, has 0 MB free" in err
    assert run(words)[0] == 0 and complete(output, reference)


@pytest.mark.parametrize("killed", [False, True], ids=["both live", "one is killed"])
def test_two_drivers_on_one_output(killed: bool, words: list[str], output: Path, reference: Path) -> None:
    """They share the output without a lock: both end well, and nothing is there twice."""
    with RayCluster(nodes=2, cpus=3) as cluster:
        lives = [Life([*words, "--actors", "1"], cluster=cluster) for _ in range(2)]
        lives[0].wait_for_parts(output, 2)
        if killed:
            os.kill(lives[0].process.pid, signal.SIGKILL)
        codes = [life.end() for life in lives]
        assert [code for code, _ in codes] == [-signal.SIGKILL if killed else 0, 0], codes
        assert run([*words, "--address", cluster.address])[0] == 0
    assert complete(output, reference)


def test_a_submitted_job_is_stopped_again_and_again(
    shards: Path, flags: list[str], output: Path, tmp_path: Path
) -> None:
    flags = [*flags, "--short-side", "256", "--stride", "16"]  # many windows: the job must not end before it is stopped
    reference, inputs = tmp_path / "reference", sorted(map(str, shards.glob("0*.tar")))
    assert run(["label", *inputs, reference, *flags], timeout=900)[0] == 0
    words = ["label", *inputs, str(output), *flags]
    with head(cpus=2) as url:
        submit = ["submit", "--address", url]
        for parts in (1, 4):
            assert run([*submit, "--no-wait", "--", *words])[0] == 0
            wait_for_parts(output, parts)
            code, out, err = run(["submit", "stop", output, "--address", url])
            assert code == 0 and "was stopped" in out, out + err
            assert intact(output, reference) and not complete(output, reference)
        code, _, err = run([*submit, "--", *words], timeout=900)
        assert code == 0, err
    assert complete(output, reference)


def wait_for_parts(output: Path, count: int) -> None:
    """Until so many chunks of a job elsewhere are committed; a finished unit counts as three."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if len(list(output.glob("_parts/*/[!.]*"))) + 3 * len(list(output.glob("images/[!.]*"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the job does not come that far")
