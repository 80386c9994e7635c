"""Hosts on one machine: network namespaces on a bridge of their own, each with its address and its own /tmp folder.

with Network(folder) as network:
    head = network.host("head")                       # 10.231.77.2
    head.popen(["ray", "start", "--head", "--block", f"--node-ip-address={head.address}"], env)
    network.cut(head); network.mend(head)             # its cable, seen from the switch

The bridge has no address and no way out: packets go from host to host and nowhere else. Needs root and iproute2.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

BRIDGE, PREFIX, SUBNET = "scbr", "sc-", "10.231.77"


def possible() -> str | None:
    """Why there can be no network here, None if there can."""
    if os.geteuid():
        return "needs root"
    if not shutil.which("ip"):
        return "needs iproute2"
    tried = subprocess.run(["ip", "netns", "add", f"{PREFIX}try"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", f"{PREFIX}try"], capture_output=True)
    return f"network namespaces are refused: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Host:
    """One host."""

    name: str
    address: str
    private: Path
    """What this host alone sees as `common`."""
    common: Path
    """The path at which every host sees its own folder."""

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.name}"

    def command(self, words: Sequence[Any]) -> list[str]:
        """The words as a command on this host."""
        mount = f'mount --bind {self.private} {self.common} && exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", mount, "sh", *map(str, words)]

    def popen(self, words: Sequence[Any], env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Starts a process on this host, in its private folder."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(words), cwd="/", env=dict(env), stdout=file, stderr=file, start_new_session=True
            )

    def run(self, words: Sequence[Any], env: Mapping[str, str], timeout: float = 900) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a command on this host."""
        done = subprocess.run(
            self.command(words), cwd="/", env=dict(env), capture_output=True, text=True, timeout=timeout
        )
        return done.returncode, done.stdout, done.stderr


class Network:
    """The bridge and its hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hosts = folder, list[Host]()

    def __enter__(self) -> "Network":
        self.remove()
        (self.folder / "own").mkdir(parents=True)
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "set", BRIDGE, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def host(self, name: str) -> Host:
        """Adds a host and plugs it in."""
        number = len(self.hosts) + 2
        private = self.folder / f"host-{name}"
        private.mkdir()
        host = Host(name, f"{SUBNET}.{number}", private, self.folder / "own")
        ip("netns", "add", host.namespace)
        ip("link", "add", cable(host), "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("link", "set", cable(host), "master", BRIDGE, "up")
        inside = ("-n", host.namespace)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        self.hosts.append(host)
        return host

    def cut(self, host: Host) -> None:
        """Pulls the host's cable."""
        ip("link", "set", cable(host), "down")

    def mend(self, host: Host) -> None:
        """Plugs it in again."""
        ip("link", "set", cable(host), "up")

    def remove(self) -> None:
        """Takes everything down, what an earlier test left included."""
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
        for name in (word for word in listed if word.startswith(PREFIX)):
            ip("netns", "del", name)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", BRIDGE)


def cable(host: Host) -> str:
    """The switch's end of a host's cable."""
    return f"v-{host.name}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
