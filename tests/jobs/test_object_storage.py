"""The job from bucket to bucket, one request in four harmed: the files of a run on local ones, no secret in them."""

import json
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from objectstore import CREDENTIALS, client, object_store
from pictures import write_shard
from processes import QUICK, contents, run

from scclip.jobs.cli.main import main


@pytest.mark.usefixtures("local_ray")
def test_a_bucket_is_a_folder(small_model: str, vocabulary_file: Path, tmp_path: Path) -> None:
    flags = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK, "--chunk-size", "2"]
    for number in range(2):
        write_shard(tmp_path / "in" / f"{number}.tar", range(4 * number, 4 * number + 4))
    assert main(["label", *map(str, (tmp_path / "in", tmp_path / "local")), *flags]) == 0
    with object_store(tmp_path / "store") as url, FaultProxy(url, rate=0.25, seed=4, hang=0.5) as proxy:
        fs = client(url)
        fs.mkdir("bucket")
        fs.put(f"{tmp_path}/in", "bucket/in", recursive=True)
        env = {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url, "FSSPEC_S3": '{"config_kwargs": {"read_timeout": 1}}'}
        code, _, err = run(["label", "s3://bucket/in", "s3://bucket/out", *flags], env)
        assert code == 0, err
        fs.get("bucket/out", f"{tmp_path}/out", recursive=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["storage_retries"] > 0, proxy.counts
    for name in ("run.json", "summary.json"):
        assert "s3cr3t" not in (tmp_path / "out" / name).read_text()
