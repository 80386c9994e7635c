"""Ray clusters of real processes, as people start them; each is ended by its own process id.

with head(tmp_path / "ray") as url: ...   # http://127.0.0.1:PORT, the dashboard
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from objectstore import free_port
from processes import children

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
SOMEBODY = """
import pathlib, sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=2)
class Busy:
    def ready(self): return True
busy = Busy.remote()
ray.get(busy.ready.remote())
print("holds", flush=True)
while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.2)
"""
PATIENCE = 180.0  # seconds for a head or a node to come up on a busy machine


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one's, with our own `python` first and without another cluster's address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    return {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **(extra or {})}


def ray_start(
    words: Sequence[str], log: Path, env: Mapping[str, str], prefix: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    """`ray start --block WORDS`; its directory is no project's, so that a job finds only what was submitted."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*prefix, *START, *words], cwd=log.parent, env=dict(env), stdout=file, stderr=file, start_new_session=True
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kills what `ray start --block` has started, and it: its own way out takes half a minute."""
    if process.poll() is None:  # the number of one that has ended may be another process's by now
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """The processes below `pid`."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def ray_folder() -> Path:
    """A new directory for a head's files, of which `cluster` disposes."""
    return Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))


@contextlib.contextmanager
def head(cpus: int = 2, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A head node with a dashboard, given by that one's URL."""
    with cluster(cpus, env) as (url, _):
        yield url


@contextlib.contextmanager
def cluster(
    cpus: int = 2, env: Mapping[str, str] | None = None, words: Sequence[str] = (), folder: Path | None = None
) -> Iterator[tuple[str, str]]:
    """The dashboard's URL and `--address` of a head node.

    Its directory is short because it holds sockets, whose names may not be long.
    """
    folder = folder or ray_folder()
    port, own = free_port(), free_port()
    places = {
        "--node-ip-address": "127.0.0.1",
        "--port": own,
        "--dashboard-port": port,
        "--dashboard-agent-listen-port": free_port(),
        "--dashboard-agent-grpc-port": free_port(),
        "--metrics-export-port": free_port(),
        "--ray-client-server-port": free_port(),
        "--num-cpus": cpus,
        "--object-store-memory": 400_000_000,
    }
    words = ["--head", *words, f"--temp-dir={folder}", *(f"{flag}={value}" for flag, value in places.items())]
    process = ray_start(words, folder / "start.log", environment(env))
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", f"127.0.0.1:{own}"
    finally:
        if process.poll() is not None:  # pytest shows it beside what then failed
            print((folder / "start.log").read_text()[-2000:])
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Until the dashboard answers, be it with a refusal."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(f"{url}/api/version", timeout=5).close()
                return
            except urllib.error.HTTPError:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer")


@contextlib.contextmanager
def somebody(address: str, until: Path) -> Iterator[None]:
    """Another program that holds two CPUs until that file exists."""
    words = [sys.executable, "-c", SOMEBODY, address, str(until)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout and process.stdout.readline() == "holds\n"
        try:
            yield
        finally:
            process.kill()
