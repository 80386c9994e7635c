"""An S3 server on loopback: Ceph's RADOS Gateway where its packages are installed and asked for, else moto's.

with object_store(tmp_path) as upstream: ...   # its URL; the keys are those of `CREDENTIALS`
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-s3cr3t",
    "AWS_DEFAULT_REGION": "us-east-1",
    "FSSPEC_S3": '{"config_kwargs": {"read_timeout": 4, "connect_timeout": 4}}',
}
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin", "monmaptool", "ceph-authtool")
CONFIG = """[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{mon}
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
ms_bind_msgr2 = false
admin_socket = {dir}/$name.asok
log_file = {dir}/$name.log
pid_file = {dir}/$name.pid
run_dir = {dir}
keyring = {dir}/keyring
[mon]
mon_data = {dir}/mon
[osd]
osd_data = {dir}/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
[client.rgw]
rgw_frontends = beast endpoint={host}:{port}
rgw_dynamic_resharding = false
rgw_enable_usage_log = false
"""


def has_ceph() -> bool:
    """Whether Debian's radosgw, ceph-mon, ceph-osd and ceph-common are installed."""
    return all(map(shutil.which, PROGRAMS))


@contextlib.contextmanager
def object_store(
    directory: Path, ceph: bool = False, host: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[str]:
    """URL of a running, empty server; Ceph takes 12 seconds to start, moto one.

    `prefix` begins every command and `host` is Ceph's address there, on a host of its own (tests/cluster/hosts.py).
    """
    with _ceph(directory, host, prefix) if ceph and has_ceph() else _moto() as url:
        yield url


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()  # servers of one process share what they hold
    yield url
    server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _ceph(directory: Path, host: str, prefix: Sequence[str]) -> Iterator[str]:
    """One monitor, one in-memory OSD, one gateway; no manager, no replication."""
    directory.mkdir(parents=True, exist_ok=True)
    fsid, port, mon = str(uuid.uuid4()), free_port(), free_port()
    conf = directory / "ceph.conf"
    conf.write_text(CONFIG.format(fsid=fsid, host=host, port=port, mon=mon, dir=directory))
    (directory / "keyring").touch()

    def run(program: str, *words: str) -> None:
        subprocess.run([*prefix, program, "-c", str(conf), *words], check=True, capture_output=True, timeout=120)

    try:
        run(
            "ceph-authtool",
            "--create-keyring",
            f"{directory}/keyring",
            "--gen-key",
            "-n",
            "mon.",
            "--cap",
            "mon",
            "allow *",
        )
        address = f"[v1:127.0.0.1:{mon}]"
        run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, f"{directory}/monmap")
        for name in ("mon", "osd"):
            (directory / name).mkdir()
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{directory}/monmap", "--keyring", f"{directory}/keyring")
        run("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        run("ceph", "--connect-timeout", "60", "osd", "new", osd, "0")
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--no-mon-config")
        run("ceph-osd", "-i", "0")
        run("radosgw", "-n", "client.rgw")
        _wait_for(f"http://{host}:{port}", prefix)
        keys = [
            f"--access-key={CREDENTIALS['AWS_ACCESS_KEY_ID']}",
            f"--secret-key={CREDENTIALS['AWS_SECRET_ACCESS_KEY']}",
        ]
        run(
            "radosgw-admin",
            "-n",
            "client.rgw",
            "--admin-socket=",
            "user",
            "create",
            "--uid=t",
            "--display-name=t",
            *keys,
        )
        yield f"http://{host}:{port}"
    finally:
        for name in ("client.rgw", "osd.0", "mon.a"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((directory / f"{name}.pid").read_text()), signal.SIGKILL)


def _wait_for(url: str, prefix: Sequence[str]) -> None:
    ask = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2).close()"
    for _ in range(120):
        if not subprocess.run([*prefix, sys.executable, "-c", ask], capture_output=True).returncode:
            return
        time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer")


def client(upstream: str) -> Any:
    """s3fs straight to the server, past every proxy."""
    import s3fs

    keys = {"key": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
    return s3fs.S3FileSystem(endpoint_url=upstream, skip_instance_cache=True, use_listings_cache=False, **keys)
