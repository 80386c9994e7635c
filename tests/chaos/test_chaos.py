"""`make chaos`: CHAOS_KILLS (100) random kills from CHAOS_SEED (1) on a real Ray; a JSON line says what came of it."""

import json
import os
import random
import sys
from pathlib import Path

import pytest
from objectstore import CREDENTIALS, client, has_ceph, object_store
from pictures import encoded, tar_bytes
from processes import contents, run

sys.path.insert(0, str(Path(__file__).parent))
from fault_proxy import FaultProxy
from harness import Chaos, NodeChaos, Report

pytestmark = pytest.mark.chaos
KILLS, SEED = int(os.environ.get("CHAOS_KILLS", "100")), int(os.environ.get("CHAOS_SEED", "1"))
NODE_KILLS = max(1, KILLS // 10)


def test_random_kills(
    shards: Path, flags: list[str], reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", shards, tmp_path / "out", *flags]
    report = Chaos(words, tmp_path / "out", reference, random.Random(SEED)).run(KILLS - NODE_KILLS)
    judge(report, KILLS - NODE_KILLS, capsys)


def test_nodes_are_lost(
    shards: Path, flags: list[str], reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three raylets; one of the two that work is killed again and again, and another takes its place."""
    words = ["label", shards, tmp_path / "out", *flags]
    report = NodeChaos(words, tmp_path / "out", reference, random.Random(SEED)).run(NODE_KILLS)
    judge(report, NODE_KILLS, capsys)


def judge(report: Report, kills: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + report.line(), flush=True)
    assert report.kills.total() >= kills
    assert (report.lost, report.duplicated, report.different_files, report.parts_left) == (0, 0, 0, 0), report.line()
    assert not report.wrong_exits, report.wrong_exits


def test_one_request_in_ten_fails(
    shards: Path, flags: list[str], reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shards and labels on Ceph's RADOS Gateway (moto where it is not installed), behind the fault proxy."""
    with object_store(tmp_path / "store", ceph=True) as upstream, FaultProxy(upstream, rate=0.1, seed=SEED) as proxy:
        fs = client(upstream)
        fs.mkdir("bucket")
        fs.put(str(shards), "bucket/in", recursive=True)
        env = {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}
        small = [*flags, "--chunk-size", "1"]  # the last one counts: twice as many requests, the same labels
        code, _, err = run(["label", "s3://bucket/in", "s3://bucket/out", *small], env, timeout=1800)
        assert code == 0, err
        fs.get("bucket/out", str(tmp_path / "out"), recursive=True)
    retries = json.loads((tmp_path / "out" / "summary.json").read_text())["storage_retries"]
    seen = {"server": "ceph" if has_ceph() else "moto", "requests": proxy.requests, "faults": proxy.counts}
    with capsys.disabled():
        print("\n" + json.dumps({**seen, "storage_retries": retries}), flush=True)
    assert retries > 0 and proxy.counts["truncate"] > 0 and contents(tmp_path / "out") == contents(reference)
    assert not list((tmp_path / "out").glob("_parts/**/*.parquet"))


def test_an_object_store_that_is_too_small(flags: list[str], tmp_path: Path) -> None:
    """80 MB of object store, chunks of 4 pictures of 12 megapixels: 144 MB each."""
    from ray.cluster_utils import Cluster

    data = {f"{seed}.jpg": encoded(seed, (3000, 4000), "JPEG") for seed in range(8)}
    (tmp_path / "in.tar").write_bytes(tar_bytes(data))
    words = [*flags[: flags.index("--chunk-size")], "--chunk-size", "4", "--masks", "png"]
    assert run(["label", tmp_path / "in.tar", tmp_path / "whole", *words], timeout=900)[0] == 0
    small = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        out = tmp_path / "out"
        code, _, err = run(["label", tmp_path / "in.tar", out, *words], {"RAY_ADDRESS": cluster.address}, timeout=900)
        assert code == 0, err
    finally:
        cluster.shutdown()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
