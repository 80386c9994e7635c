"""How a local Ray starts: what is kept of its own lines, and where its files lie."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray
from ray._private.utils import check_version_info

from scclip.errors import UserError
from scclip.jobs.cli.cluster import SOCKET_BYTES, Cluster, refused, start_local, without_lines
from scclip.pipeline.cluster import disk


def test_all_lines_but_one_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), without_lines(b"log level"):
        os.write(2, b"Set ray log level\nthe cluster is full\n")
        raise KeyError
    os.write(2, b"then log level again\n")
    assert capfd.readouterr().err == "the cluster is full\nthen log level again\n"


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_named_before_ray_starts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started = list[str]()
    monkeypatch.setattr("ray.init", lambda **options: started.append(os.environ.get(name, "")))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder in ("/" + "long" * 40, "/tmp/" + "é" * 30, "/scratch/users/somebody/jobs/0123456789/tmp"):
        monkeypatch.setenv(name, folder)
        with pytest.raises(UserError, match=f"^{name} {folder[:40]}.* shorter folder") as error:
            start_local()
        assert str(SOCKET_BYTES) in str(error.value) and len(str(error.value)) < 200
    for folder in ("/tmp", "/var/tmp"):
        monkeypatch.setenv(name, folder)
        start_local()
        assert started[-1] == folder


def test_a_folder_without_room_is_named_before_ray_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("scclip.jobs.cli.cluster.refuse_long_folder", lambda: None)
    monkeypatch.setattr(disk, "ROOM", 10 * free)
    with pytest.raises(UserError, match=rf"^{tmp_path}, where Ray keeps .* has \d+ MB free; .*RAY_TMPDIR=FOLDER"):
        start_local()


@pytest.mark.parametrize(("folder", "reason"), [("/dev/null", "Not a directory"), ("/proc/me", "No such file")])
def test_a_folder_that_cannot_be_written_is_named_before_ray_starts(
    folder: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(UserError, match=f"^RAY_TMPDIR: cannot write in {folder}: {reason}.*RAY_TMPDIR=FOLDER"):
        start_local()


def given() -> Cluster:
    """One whose address was an option; it has not joined yet."""
    cluster = Cluster("label", None)
    cluster.given = True
    return cluster


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://head.example:8265", r"that is a dashboard; give HOST:6379 .*`scclip submit --address http://head"),
        ("https://me:secret@head.example", r"--address https://head.example: that is a dashboard"),
        ("ray://head.example:10001", r"do not run through Ray Client; use `scclip submit --address http://HOST:8265"),
        ("127.0.0.1:1", r"127.0.0.1:1: .*refused; start it with `ray start --head`"),
    ],
)
def test_addresses_that_are_no_heads_get_the_right_remedy(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        given().join(address)
    assert "secret" not in str(error.value)


def test_a_web_server_is_no_head() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UserError, match="a web server answers there, perhaps the dashboard; give HOST:6379"):
            given().join(f"127.0.0.1:{server.server_port}")


def test_lists_of_jobs_get_the_command_line_without_credentials() -> None:
    """Ray lists every driver that joins a cluster by the command line that started it."""
    script = (
        "from ray._private import utils\nfrom scclip.jobs.cli.cluster import public_command\n"
        "with public_command():\n    print(utils.get_entrypoint_name())\nprint(utils.get_entrypoint_name())"
    )
    words = ["label", "http://host/a.tar?sig=s3cr3t", "http://me:s3cr3t@host/b.tar"]
    said = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True).stdout
    inside, _, after = said.partition("label http://host/a.tar?… http://host/b.tar\n")
    assert "s3cr3t" not in inside and after.count("s3cr3t") == 2


@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_what_the_cluster_warns_of_is_no_output(flags: list[str]) -> None:
    """Ray prints what its raylet and its head tell every driver to stdout, also where it logs nothing."""
    body = (
        "from ray._private import utils, worker\n"
        "utils.push_error_to_driver(worker.global_worker, 'node_removed', 'a node is dead')\n"
        "time.sleep(4)\n"
    )
    said = on_a_local_ray(body, *flags)
    assert ("a node is dead" in said) == bool(flags) and (flags or not said)


def test_a_worker_that_waits_on_a_full_node_is_kept() -> None:
    """Ray's own second would end it, and the next chunk would wait for a new process and its imports."""
    body = (
        "look = ray.remote(num_cpus=0)(lambda: time.sleep(1) or os.getpid())\n"
        "holder = ray.remote(num_cpus=cpus)(Holder).remote()\n"
        "ray.get(holder.pid.remote())\n"
        "first = set(ray.get([look.remote() for _ in range(4)]))\n"
        "time.sleep(3)\n"
        "print([os.kill(pid, 0) for pid in first] != [])\n"  # an error where one has ended
    )
    assert on_a_local_ray(body) == "True\n"


def on_a_local_ray(body: str, *flags: str) -> str:
    """What a process prints that starts its own Ray as the commands do."""
    script = (
        "import os, sys, time\nfrom scclip.jobs.options.label import parser\n"
        "parser().parse(['in', 'out', *sys.argv[1:]])\n"
        "import ray\nfrom scclip.jobs.cli.cluster import local_or_cluster\n"
        "class Holder:\n    def pid(self): return os.getpid()\n"
        "with local_or_cluster('label', None) as cluster:\n"
        "    cluster.start()\n"
        "    cpus = int(ray.cluster_resources()['CPU'])\n"
    )
    words = [sys.executable, "-c", script + textwrap.indent(body, "    "), *flags]
    # what this process set for its own Ray would be set there too
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout


def test_versions_that_differ_are_told_in_one_line() -> None:
    with pytest.raises(RuntimeError) as error:
        check_version_info({"ray_version": "2.44.1", "python_version": "3.9.2"}, "10.0.0.9")
    what, remedy = refused(error.value)
    assert what.startswith(
        f"the cluster has Ray 2.44.1 and Python 3.9.2, this process Ray {ray.__version__} and Python"
    )
    assert remedy and "the cluster's versions here" in remedy
