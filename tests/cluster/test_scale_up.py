"""From no worker at all: an autoscaling cluster (Ray's fake provider) brings up nodes, the pool grows to three, all go.

The provider wants port 6379: Ray runs on a host of its own, so that no other Ray of this machine is in the way.
"""

import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from pictures import write_shard
from processes import contents, run
from rayhead import START, end, environment

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Network, ip, possible

pytestmark = [pytest.mark.cluster]
CONFIG = """
cluster_name: fake
max_workers: 3
idle_timeout_minutes: 0.2
upscaling_speed: 100
provider: {type: external, module: sized_provider.SizedProvider, use_node_id_as_ip: true}
auth: {}
docker: {}
file_mounts: {}
file_mounts_sync_continuously: false
cluster_synced_files: []
rsync_exclude: []
rsync_filter: []
initialization_commands: []
setup_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
head_node_type: ray.head.default
available_node_types:
  ray.head.default: {resources: {CPU: 0}, node_config: {}, max_workers: 0}
  small: {resources: {CPU: 4, memory: 4000000000}, node_config: {}, min_workers: 0, max_workers: 3}
"""
OBSERVER = """
import json, sys, time, ray
from ray.util.state import list_actors
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while True:
    nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    alive = list_actors(sys.argv[1], filters=[("state", "=", "ALIVE")], limit=1000)  # not another Ray
    actors = sum(actor.class_name.startswith("MapWorker") for actor in alive)
    print(json.dumps({"nodes": nodes, "actors": actors}), flush=True)
    time.sleep(1)
"""
FLAGS = ["--model", "demo", "--vocabulary", "demo", "--precision", "float32", "--chunk-size", "2"]


def test_the_pool_grows_from_nothing_to_three_and_goes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := possible():
        pytest.skip(reason)
    for number in range(6):  # minutes of work: Ray Data adds a node after ten busy seconds
        write_shard(tmp_path / "in" / f"{number}.tar", range(80 * number, 80 * number + 80))
    folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    config = folder / "autoscaler.yaml"
    config.write_text(CONFIG)
    with Network(folder) as network:
        host = network.host("scale")
        ip("-n", host.namespace, "route", "add", "default", "dev", "eth0")  # the provider asks which way leads out
        provider = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_worker_niceness": "0"}
        env = environment({**provider, "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parent}"})
        words = ["--head", "--port=6379", "--num-cpus=0", "--dashboard-port=8265", f"--autoscaling-config={config}"]
        address = f"--node-ip-address={host.address}"
        started = [host.popen([*START, *words, address, f"--temp-dir={folder}/own"], env, folder / "head.log")]
        try:
            label = [sys.executable, "-m", "scclip", "label", tmp_path / "in", tmp_path / "out", *FLAGS]
            wait = [sys.executable, "-c", f"import ray; ray.init('{host.address}:6379', logging_level='ERROR')"]
            assert any(host.run(wait, env)[0] == 0 for _ in range(20)), (folder / "head.log").read_text()
            log = folder / "observer.log"
            started.append(host.popen([sys.executable, "-c", OBSERVER, f"{host.address}:6379"], env, log))
            code, _, err = host.run([*label, "--address", f"{host.address}:6379", "--actors", "1:3"], env, 1500)
            assert code == 0, err
            assert "no node holds an actor" in err and "asked the autoscaler" in err, err
            seen = wait_until_gone(log)
        finally:
            for process in reversed(started):
                end(process)
    shutil.rmtree(folder, ignore_errors=True)
    steps = [step for step, _ in itertools.groupby((line["nodes"], line["actors"]) for line in seen)]
    with capsys.disabled():
        print("\n" + json.dumps({"nodes_and_actors": steps}), flush=True)
    assert seen[0]["nodes"] == 0
    assert max(line["actors"] for line in seen) == max(line["nodes"] for line in seen) == 3
    assert any(line["actors"] == 1 for line in seen[: seen.index(next(x for x in seen if x["actors"] == 3))])
    assert (seen[-1]["nodes"], seen[-1]["actors"]) == (0, 0)
    assert run(["label", tmp_path / "in", tmp_path / "alone", *FLAGS], timeout=1500)[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def wait_until_gone(log: Path) -> list[dict[str, int]]:
    """What the observer saw, up to the moment at which the last node was gone."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        seen = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        if seen and seen[-1]["nodes"] == 0 and any(line["nodes"] for line in seen):
            return seen
        time.sleep(1)
    raise TimeoutError(log.read_text()[-500:])
