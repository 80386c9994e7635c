"""`scclip bench gpu` measures every part, and prints a line of JSON for each."""

import json

import pytest
import torch

from scclip.jobs import bench

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)


def test_every_part_has_figures(capsys: pytest.CaptureFixture[str]) -> None:
    few = "--pictures 4 --windows 8 --queries 21 --calls 1 2 --repeats 1"
    assert bench.main(["gpu", "--model", "demo", *few.split()]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["bench"] for line in printed] == [f"gpu.{part}" for part in printed[0]["options"]["parts"]]
    lines = {line["bench"]: line for line in printed}
    assert lines["gpu.tower"]["figures"][0]["graphed"] and lines["gpu.images"]["own_kernels"]
    assert {"resize", "encode", "cosines", "score", "maps"} == set(lines["gpu.scoring"]["figures"][0]["stages_ms"])
    assert lines["gpu.profile"]["gpu_busy_ms_per_image"] > 0
    assert all(rate > 0 for rate in lines["gpu.actor"]["images_per_s"].values())
