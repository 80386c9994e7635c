"""What goes wrong on a cluster that a job joined: each ends in one line that says what, where and how to go on."""

import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, tar_bytes
from PIL import Image
from processes import QUICK, contents, run, said, start
from rayhead import cluster, descendants, somebody

pytestmark = pytest.mark.cluster

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "the-token-of-this-test-and-of-no-other-one"}
UNITS, IMAGES = 9, 3  # more units than an export does without Ray
TIMEOUT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vocabulary_file: Path) -> Path:
    """The current folder of a person: shards with ground truth, and a vocabulary."""
    root = tmp_path_factory.mktemp("here")
    (root / "in").mkdir()
    (root / "street.yaml").write_bytes(vocabulary_file.read_bytes())
    truth = truth_png()
    for unit in range(UNITS):
        seeds = range(IMAGES * unit, IMAGES * unit + IMAGES)
        members = {f"{seed:06d}.png": encoded(seed, (30, 40)) for seed in seeds}
        members |= {f"{seed:06d}.seg.png": truth for seed in seeds}
        (root / "in" / f"{unit}.tar").write_bytes(tar_bytes(dict(sorted(members.items()))))
    return root


@pytest.fixture(scope="module")
def flags(small_model: str) -> list[str]:
    return ["--model", small_model, "--vocabulary", "street.yaml", *QUICK, "--chunk-size", "1"]


def truth_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((30, 40), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def wait_until(true: Callable[[], Any], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


def processes_of_ray(name: str, port: str) -> Iterator[int]:
    """The processes of that name that this one has started, of the cluster whose head listens at that port."""
    for pid in descendants(os.getpid()):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        if f"/{name}\0" in command and port in command:
            yield pid


def test_relative_paths_are_those_of_the_person_not_of_a_node(folder: Path, flags: list[str]) -> None:
    with cluster(2) as (_, address):
        for words in (
            ["label", "in", "out/labels", *flags],
            ["export", "out/labels", "out/png", "--format", "png-folders"],
            ["evaluate", "in", "out/scores", *flags, "--truth-extension", "seg.png"],
            ["shard", "folders", "images", "out/shards", "--truth", "masks"],
        ):
            if words[0] == "shard":
                for name in ("images", "masks"):
                    (folder / name).mkdir()
                    (folder / name / "a.png").write_bytes(truth_png())
            code, _, err = run([*words, "--address", address], timeout=TIMEOUT, cwd=folder)
            assert code == 0, err
        assert sorted(path.name for path in (folder / "out").iterdir()) == ["labels", "png", "scores", "shards"]
        assert len(list((folder / "out" / "png").glob("**/*.png"))) == UNITS * IMAGES
        assert (folder / "out" / "scores" / "results.json").is_file()
        assert len(list((folder / "out" / "shards").glob("*.tar"))) == 1


def test_an_actor_that_cannot_start_says_why_and_where(folder: Path, flags: list[str], tmp_path: Path) -> None:
    """The cluster promises a GPU that its node does not have."""
    with cluster(2, words=["--num-gpus=1"]) as (_, address):
        words = ["label", "in", tmp_path / "out", *flags, "--address", address]
        code, _, err = run(words, timeout=TIMEOUT, cwd=folder)
    (line,) = (line for line in err.splitlines() if "waiting for" not in line)
    assert code == 1 and re.search(r"no actor can start: .*NVIDIA.* \(on [\d.]+\); what is committed", line), err


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_head_that_dies_ends_the_job(folder: Path, flags: list[str], tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    with cluster(2) as (_, address):
        words = ["label", "in", output, *flags, "--address", address]
        job = start(words, cwd=folder)
        wait_until(lambda: job.poll() is not None or list(output.glob("_parts/*/[!.]*")), 120)
        for pid in processes_of_ray(name, address.rpartition(":")[2]):
            os.kill(pid, signal.SIGKILL)
        err = job.communicate(timeout=120)[1]
    assert job.returncode == 1, err
    assert [line for line in err.splitlines() if "images" not in line and "waiting for" not in line] == said(err), err
    assert len(said(err)) == 1, err
    port = address.rpartition(":")[2]
    assert re.search(rf"head [\d.]+:{port} does not answer any more; .* the same command again goes on$", err), err
    code, _, err = run(["label", "in", output, *flags], timeout=TIMEOUT, cwd=folder)
    assert code == 0 and len([name for name in contents(output) if name.startswith("coco/")]) == UNITS, err


def test_a_head_that_dies_ends_a_job_that_waits_for_room(folder: Path, flags: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    with cluster(2) as (_, address), somebody(address, tmp_path / "leave"):
        job = start(["label", "in", output, *flags, "--address", address], cwd=folder)
        wait_until((output / "_waiting.json").exists, 120)
        for pid in processes_of_ray("gcs_server", port := address.rpartition(":")[2]):
            os.kill(pid, signal.SIGKILL)
        err = job.communicate(timeout=120)[1]
    assert job.returncode == 1 and re.search(rf"head [\d.]+:{port} does not answer any more; .* goes on$", err), err


def test_a_wrong_token_is_told(folder: Path, flags: list[str], tmp_path: Path) -> None:
    with cluster(1, TOKEN) as (_, address):
        words = ["label", "in", tmp_path / "out", *flags, "--address", address]
        for token in ("", "the-token-of-somebody-else-which-is-also-long"):
            code, _, err = run(words, {**TOKEN, "RAY_AUTH_TOKEN": token}, timeout=TIMEOUT, cwd=folder)
            assert code == 2 and len(said(err)) == 1 and "RAY_AUTH_TOKEN" in said(err)[0], err
            assert not token or token not in err


def test_workers_killed_for_memory_are_counted_in_our_line(folder: Path, flags: list[str], tmp_path: Path) -> None:
    """The memory monitor kills every worker: the node is said to be full from 1 % on."""
    greedy = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "200"}
    with cluster(2, greedy) as (_, address), (tmp_path / "err").open("w+") as file:
        job = start(["label", "in", tmp_path / "out", *flags, "--address", address], stderr=file, cwd=folder)
        log = tmp_path / "err"
        wait_until(lambda: job.poll() is not None or "memory monitor has killed" in log.read_text(), 150)
        job.kill()
        job.communicate()
    assert "memory monitor has killed" in log.read_text(), log.read_text()
    assert len(log.read_text().splitlines()) < 10, log.read_text()
