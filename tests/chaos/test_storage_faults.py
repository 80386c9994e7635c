"""The job over an S3 server that fails: one request in ten, or all of them; and what its lines never show."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from objectstore import CREDENTIALS, client, object_store
from pictures import write_shard
from processes import contents, run, said

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.mark.usefixtures("local_ray")
def test_one_request_in_ten_fails_then_all_then_one_in_ten(upstream: str, flags: list[str], tmp_path: Path) -> None:
    from scclip.jobs.cli.main import main

    for number in range(3):
        write_shard(tmp_path / "in" / f"{number}.tar", range(4 * number, 4 * number + 4))
    assert main(["label", *map(str, (tmp_path / "in", tmp_path / "local")), *flags]) == 0
    fs = client(upstream)
    fs.mkdir("bucket")
    fs.put(f"{tmp_path}/in", "bucket/in", recursive=True)
    with FaultProxy(upstream, rate=0.1, seed=4, fail_after=45, hang=1.5) as proxy:
        env = {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url, "FSSPEC_S3": '{"config_kwargs": {"read_timeout": 1}}'}
        words = ["label", "s3://bucket/in", "s3://bucket/out", *flags]
        code, _, err = run(words, env)
        assert (code, len(said(err))) == (1, 1), err
        assert re.search("SlowDown|503", err) and "total backoff" not in err  # what answers HEAD has no body
        assert "after 8 attempts" in err and "Traceback" not in err
        assert "s3cr3t" not in err

        proxy.fail_after, proxy.requests, before = None, 0, proxy.counts.total()
        code, _, err = run(words, env)
        assert code == 0, err
        assert proxy.counts.total() > before + 5, proxy.counts
        check(fs, "out", tmp_path)
        assert json.loads(fs.cat("bucket/out/summary.json"))["storage_retries"] > 0, proxy.counts
        for name in ("run.json", "summary.json"):
            assert b"s3cr3t" not in fs.cat(f"bucket/out/{name}")


def check(fs: object, name: str, folder: Path) -> None:
    """The run in the bucket equals the undisturbed local one, and has no part left."""
    fs.get(f"bucket/{name}", f"{folder}/{name}", recursive=True)  # type: ignore[attr-defined]
    assert contents(folder / name) == contents(folder / "local")
    assert not list((folder / name).glob("_parts/**/*.parquet"))
