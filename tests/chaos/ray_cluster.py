"""A Ray cluster of `ray start --block` processes on this machine, in a folder of its own, harmed by process id.

with RayCluster(nodes=2) as cluster:
    run(["label", shards, output, "--address", cluster.address])
    cluster.stop(); cluster.start()   # a new one at the same address
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from objectstore import free_port
from processes import children, title
from rayhead import PATIENCE, end, environment, ray_start

STARTED = b"Ray runtime started"
OBJECTS = 200_000_000  # bytes of a node's object store


class RayCluster:
    """A head, and nodes that work beside it; without nodes the head works itself."""

    def __init__(self, nodes: int = 0, cpus: float = 2, objects: int = OBJECTS, temp: Path | None = None) -> None:
        self.nodes, self.cpus, self.objects = nodes, cpus, objects
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets are in it: its name must be short
        self.temp, self.port = temp or self.folder / "temp", free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "RayCluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Starts the head and the nodes, at the address that the cluster had before."""
        head = {"--port": self.port, "--temp-dir": self.temp, "--include-dashboard": "false"}
        self.add(["--head", *words(head)], 0 if self.nodes else self.cpus)
        for _ in range(self.nodes):
            self.add([f"--address={self.address}"], self.cpus)

    def add(self, place: list[str], cpus: float) -> None:
        """Starts one more node and waits until it has joined."""
        log = self.folder / f"start-{len(self.processes)}.log"
        log.unlink(missing_ok=True)
        own = {name: free_port() for name in ("--dashboard-agent-listen-port", "--metrics-export-port")}
        sizes = {"--node-ip-address": "127.0.0.1", "--num-cpus": cpus, "--object-store-memory": self.objects}
        process = ray_start([*place, *words({**own, **sizes})], log, environment())
        self.processes.append(process)
        until = time.monotonic() + PATIENCE
        while STARTED not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > until:
                raise TimeoutError(f"no Ray: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends all that was started."""
        while self.processes:
            end(self.processes.pop())

    def servers(self, name: str) -> list[int]:
        """Processes of the head, then of the nodes, that run the server: raylet or gcs_server."""
        return [pid for process in self.processes for pid in children(process.pid) if f"/{name} " in title(pid)]

    def kill_alone(self, pid: int) -> None:
        """Kills one server; what else its node runs is left to itself."""
        for process in self.processes:
            if pid in children(process.pid):
                process.send_signal(signal.SIGSTOP)  # it would end the others
        os.kill(pid, signal.SIGKILL)


def words(flags: Mapping[str, object]) -> list[str]:
    """Flags with their values as words."""
    return [f"{flag}={value}" for flag, value in flags.items()]
