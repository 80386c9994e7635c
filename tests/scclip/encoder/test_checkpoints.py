"""Weights files are data: pickles and TorchScript that are not published ones are refused, and nothing in them runs."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from classed_runs import photo
from pictures import tar_bytes
from towers import write_local_dir

from scclip.encoder.checkpoints import WeightsSource, check_architecture, find_weights, load_clip, published_digests
from scclip.encoder.config import ModelConfig
from scclip.errors import ModelError


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "executed")


class Scripted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def evil_files(folder: Path, mark: Path) -> dict[str, Path]:
    torch.save({"state_dict": {"visual.proj": Evil(mark)}}, folder / "zip.pt")
    torch.save(Evil(mark), folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "bare.bin").write_bytes(pickle.dumps(Evil(mark)))
    torch.jit.save(torch.jit.script(Scripted()), folder / "script.pt")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["zip.pt", "old.pth", "bare.bin", "script.pt"])
def test_nothing_in_a_weights_file_is_executed(name: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    mark, model = tmp_path / "mark", write_local_dir(tmp_path / "model")
    file = evil_files(tmp_path / "files", mark)[name]
    (model / "open_clip_model.safetensors").unlink()
    shutil.copy(file, model / f"open_clip_pytorch_model{file.suffix}")
    for config in (
        ModelConfig(model=f"local-dir:{model}"),
        ModelConfig(model="ViT-S-32-alt", pretrained=str(file)),
    ):
        with pytest.raises(ModelError) as refused:
            load_clip(find_weights(config))
        assert "\n" not in str(refused.value) and str(file.suffix) in str(refused.value)
        assert not mark.exists() and "weights_only" not in str(refused.value), config


def test_safetensors_are_preferred_and_only_published_digests_may_be_torchscript(tmp_path: Path) -> None:
    model = write_local_dir(tmp_path / "model")
    (model / "a.pt").write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    assert find_weights(ModelConfig(model=f"local-dir:{model}")).file.suffix == ".safetensors"
    assert all(len(digest) == 64 for digest in published_digests()) and len(published_digests()) >= 5


RUN = "B-32 B-32-quickgelu B-16 B-16-quickgelu B-16-plus-240 L-14 L-14-quickgelu L-14-336 H-14 H-14-378-quickgelu"
RUN += " g-14 bigG-14"
REFUSED = {
    "EVA02-B-16": "Eva",
    "ViT-B-16-SigLIP": "VisionTransformer",
    "ViT-L-14-CLIPA": "pools by 'avg'",
    "RN50": "ResNet",
}


@pytest.mark.parametrize("name", [*(f"ViT-{tower}" for tower in RUN.split()), *REFUSED])
def test_towers_run_or_are_refused_by_name(name: str) -> None:
    """OpenAI's, LAION's, DataComp's, DFN's and MetaCLIP's weights are of the towers that run."""
    config = ModelConfig(model=name)
    source = WeightsSource(config=config, open_clip_name=name, file=Path(), digest="", quick_gelu=False, settings={})
    if name not in REFUSED:
        check_architecture(source)
        return
    with pytest.raises(ModelError, match=f"{name}: .*{REFUSED[name]}.*; use an open_clip ViT with a class token"):
        check_architecture(source)


@pytest.mark.parametrize(
    "config", [ModelConfig(model="ViT-B-32", pretrained="laion2b_e16"), ModelConfig(model="hf-hub:nobody/none")]
)
def test_weights_that_cannot_be_downloaded_name_what_needs_no_network(config: ModelConfig, tmp_path: Path) -> None:
    """In a process of its own, whose caches are empty and whose proxy does not answer."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    caches = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    code = "import sys; from scclip.jobs.cli.main import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "in.tar").write_bytes(tar_bytes({"a.png": photo(0)}))
    words = ["preview", str(tmp_path / "in.tar"), "--vocabulary", "voc21", "--model", config.model]
    words += ["--pretrained", config.pretrained] if config.pretrained else []
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **nowhere, **caches, "NO_PROXY": "", "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (line,) = run.stderr.splitlines()
    assert run.returncode == 2 and "network" in line and "--pretrained FILE or --model demo" in line, run.stderr
