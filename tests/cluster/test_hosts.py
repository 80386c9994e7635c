"""`make cluster`: head and workers as real processes on hosts of their own, S3 on a fourth, the user on a fifth.

One worker is cut off in mid-run and comes back when its work has been redone, a new one comes up; the labels in the
bucket must be those of one machine alone. Everything goes through `scclip submit`, with Ray's tokens switched on.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from objectstore import CREDENTIALS, has_ceph, object_store
from pictures import write_shard
from processes import contents, run
from rayhead import START, end, environment

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Host, Network, possible

pytestmark = [pytest.mark.cluster]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-this-test-and-no-other-one"}
PATIENT = {"RAY_health_check_timeout_ms": "8000", "RAY_health_check_period_ms": "1000"}
PATIENT |= {"RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "3000"}
FLAGS = ["--model", "demo", "--vocabulary", "demo", "--precision", "float32", "--chunk-size", "2", "--masks", "png"]
FLAGS += ["--short-side", "112"]  # a window or two an image: what is tested is everything around the model
SHARDS, IMAGES = 6, 12
EAGER = {"RAY_worker_niceness": "0", "OMP_WAIT_POLICY": "passive"}  # many processes share few cores here
LISTING = "import sys, s3fs; print(*s3fs.S3FileSystem(skip_instance_cache=True).find(sys.argv[1]), sep='\\n')"
SCRAPING = "import sys, urllib.request as u; [print(u.urlopen(url, timeout=9).read().decode()) for url in sys.argv[1:]]"
COPYING = (
    "import sys, s3fs; fs = s3fs.S3FileSystem(); a, b, make = sys.argv[1:];"
    "make and fs.mkdir(make); (fs.put if make else fs.get)(a, b, recursive=True)"
)


@dataclass
class Cluster:
    """The hosts and what runs on them."""

    network: Network
    folder: Path
    head: Host
    user: Host
    env: dict[str, str]
    rays: dict[str, Any] = field(default_factory=dict)

    def start(self, host: Host, *words: str) -> None:
        """`ray start` on a host; one that runs there already is ended first."""
        if host.name in self.rays:
            end(self.rays.pop(host.name))
        words = (*words, f"--node-ip-address={host.address}", "--object-store-memory=300000000")
        words = (*words, "--metrics-export-port=8080")
        log = self.folder / f"{host.name}.log"
        self.rays[host.name] = host.popen([*START, *words], self.env, log)

    def worker(self, host: Host) -> None:
        """A worker of two CPUs."""
        self.start(host, f"--address={self.head.address}:6379", "--num-cpus=2")

    def scclip(self, *words: Any, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        """`scclip submit WORDS` on the user's host."""
        command = [sys.executable, "-m", "scclip", "submit", "--address", f"http://{self.head.address}:8265", *words]
        return self.user.run(command, {**self.env, **(env or {})})

    def label(self, output: str, *options: str, flags: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Submits the label job with the store's keys."""
        keys = ["--pass-env", *CREDENTIALS, "AWS_ENDPOINT_URL"]
        return self.scclip(*options, *keys, "--", "label", "s3://bucket/in", output, *FLAGS, *flags)

    def script(self, code: str, *words: str) -> str:
        """Output of a Python script on the user's host."""
        status, out, err = self.user.run([sys.executable, "-c", code, *words], self.env)
        assert status == 0, err
        return out

    def committed(self, output: str) -> int:
        """Images that are committed, in parts or in finished units."""
        names = [name for name in self.script(LISTING, output).split() if name.endswith(".parquet")]
        return 2 * sum("/_parts/" in name for name in names) + IMAGES * sum("/images/" in name for name in names)

    def wait(self, output: str, images: int) -> None:
        """Until so many images are committed."""
        until = time.monotonic() + 900
        while self.committed(output) < images:
            assert time.monotonic() < until, f"{self.committed(output)} images committed: {self.logs(output)}"
            time.sleep(0.5)

    def logs(self, output: str) -> str:
        return "\n".join(self.scclip("logs", output)[1:])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    reason = possible() or (None if has_ceph() else "needs radosgw, ceph-mon, ceph-osd, ceph-common")
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))  # short: it holds sockets
    with Network(folder) as network:
        store = network.host("store")
        prefix = ["ip", "netns", "exec", store.namespace]
        with object_store(folder / "store", ceph=True, host=store.address, prefix=prefix) as url:
            source = {"PYTHONPATH": str(Path(__file__).parents[2])}
            env = environment({**TOKEN, **PATIENT, **EAGER, **CREDENTIALS, **source, "AWS_ENDPOINT_URL": url})
            built = Cluster(network, folder, network.host("head"), network.host("user"), env)
            try:
                dashboard = ["--dashboard-host=0.0.0.0", "--dashboard-port=8265", "--num-cpus=0"]
                built.env = {name: value for name, value in env.items() if name not in (*CREDENTIALS, *source)}
                built.start(built.head, "--head", "--port=6379", f"--temp-dir={folder}/own", *dashboard)
                workers = [network.host(name) for name in ("one", "two")]
                for worker in workers:
                    built.worker(worker)
                built.env = env
                yield built
            finally:
                for process in built.rays.values():
                    end(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cluster") / "in"
    for number in range(SHARDS):
        write_shard(root / f"{number}.tar", range(IMAGES * number, IMAGES * number + IMAGES))
    return root


@pytest.fixture(scope="module")
def expected(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one machine alone makes of the shards, read from its disk: file:// and s3:// must agree."""
    output = tmp_path_factory.mktemp("alone") / "out"
    words = ["label", f"file://{shards}", f"file://{output}", *FLAGS, "--actors", "2"]
    code, _, err = run(words, EAGER, timeout=900)
    assert code == 0, err
    return contents(output)


def fetched(cluster: Cluster, output: str, folder: Path) -> dict[str, Any]:
    """What lies in the bucket."""
    cluster.script(COPYING, f"{output}/", f"{folder}/", "")
    assert not list(folder.glob("_parts/**/*.parquet"))
    return contents(folder)


def eventually(action: Any, wanted: Any) -> Any:
    """The first result that is wanted."""
    until = time.monotonic() + 240
    while not wanted(result := action()):
        assert time.monotonic() < until, result
        time.sleep(1)
    return result


def test_a_worker_is_cut_off_and_another_comes_up(
    cluster: Cluster, shards: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    eventually(lambda: cluster.scclip("list"), lambda result: result[:2] == (0, "no jobs\n"))
    cluster.script(COPYING, f"{shards}/", "bucket/in/", "bucket")
    output = "s3://bucket/out"
    code, out, err = cluster.label(output, "--no-wait", flags=("--actors", "2"))
    job = out.split()[1]
    assert code == 0 and job.endswith("-1"), out + err
    code, out, _ = cluster.label(output, "--no-wait", flags=("--actors", "2"))
    assert (code, out.split()[:2]) == (0, ["joined", f"{job},"]), out
    code, _, err = cluster.label(output, "--no-wait", flags=("--actors", "1"))
    assert code == 2 and "running with other options" in err, err
    cluster.wait(output, 6)
    hosts = [host for host in cluster.network.hosts if host.name in ("head", "one", "two")]
    urls = [f"http://{host.address}:8080/metrics" for host in hosts]
    wanted = [f"ray_scclip_{name}_total" for name in ("images", "windows", "busy_seconds")]
    wanted += ['stage="label"', "ray_scclip_waiting_chunks"]  # every process exports its own, some seconds apart
    eventually(
        lambda: cluster.script(SCRAPING, *urls).replace("Stage", "stage"),
        lambda text: all(name in text for name in wanted),
    )
    two = next(host for host in cluster.network.hosts if host.name == "two")
    cluster.network.cut(two)
    cluster.wait(output, cluster.committed(output) + 8)  # what it held is redone by the other
    cluster.network.mend(two)
    cluster.worker(cluster.network.host("three"))
    cluster.worker(two)
    code, out, _ = cluster.scclip("status", output)
    assert code == 0 and f"{job}: RUNNING" in out, out
    code, out, err = cluster.scclip("logs", output, "--follow")
    assert code == 0 and f"{SHARDS * IMAGES} images read, {SHARDS * IMAGES} labeled, 0 failed" in out, out + err
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in out + err
    assert fetched(cluster, output, tmp_path / "out") == expected
    code, out, err = cluster.label(output, flags=("--actors", "2"))
    assert code == 0 and f"submitted {job[:-1]}2" in out and "nothing to do" in out, out + err


def test_stopped_and_gone_on_with(cluster: Cluster, expected: dict[str, Any], tmp_path: Path) -> None:
    output = "s3://bucket/stopped"
    code, out, err = cluster.label(output, "--no-wait")
    job = out.split()[1]
    assert code == 0, err
    cluster.wait(output, 4)
    code, out, _ = cluster.scclip("stop", output)
    assert code == 0 and f"{job} was stopped" in out, out
    assert "the same command again goes on from there" in cluster.logs(job)
    assert cluster.scclip("logs", job, "--follow")[0] == 130
    before = cluster.committed(output)
    assert 0 < before < SHARDS * IMAGES
    code, out, err = cluster.label(output)
    assert code == 0 and f"submitted {job[:-1]}2" in out, out + err
    assert fetched(cluster, output, tmp_path / "out") == expected


def test_what_cannot_work_is_refused_at_once(cluster: Cluster) -> None:
    """A folder that every host has for itself; an actor that no host holds; a wrong token."""
    own = cluster.folder / "own" / "labels"
    code, out, err = cluster.label(str(own))
    assert code == 2 and "is not seen by" in out and "give a bucket, or a folder that all nodes share" in out, out + err
    code, out, err = cluster.label("s3://bucket/never", flags=("--gpus-per-actor", "1"))
    assert code == 2 and "an actor wants 1 GPUs, the largest node has 0" in out, out + err
    code, out, err = cluster.scclip("list", env={"RAY_AUTH_TOKEN": "another-token-that-is-not-the-clusters"})
    assert code == 2 and "the cluster refuses the token" in err and len(err.splitlines()) == 1, err
