"""Weights files are data: pickles and TorchScript that are not published ones are refused, and nothing in them runs."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from classed_runs import photo
from pictures import tar_bytes
from towers import write_local_dir

from scclip.encoder.checkpoints import (
    WeightsSource,
    check_architecture,
    download_tag,
    find_weights,
    load_clip,
    published_digests,
)
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


FAMILIES = ("openai", "laion", "datacomp", "dfn", "metaclip")
PUBLISHED = [
    (name, tag)
    for name, tag in open_clip.list_pretrained()
    if name.startswith("ViT-") and "CLIPA" not in name and tag.startswith(FAMILIES)
]
RUN = {name for name, _ in PUBLISHED}
REFUSED = {
    "EVA02-B-16": "Eva",
    "ViT-B-16-SigLIP": "VisionTransformer",
    "ViT-L-14-CLIPA": "pools by 'avg'",
    "RN50": "ResNet",
}


def source(name: str, tag: str | None = None) -> WeightsSource:
    config = ModelConfig(model=name, pretrained=tag)
    return WeightsSource(config=config, open_clip_name=name, file=Path(), digest="", quick_gelu=False, settings={})


@pytest.mark.parametrize("name", [*sorted(RUN), *REFUSED])
def test_towers_run_or_are_refused_by_name(name: str) -> None:
    """Every tower for which OpenAI, LAION, DataComp, Apple's DFN or MetaCLIP publish weights runs, but CLIPA's."""
    if name not in REFUSED:
        check_architecture(source(name))
        return
    with pytest.raises(ModelError, match=f"{name}: .*{REFUSED[name]}.*; use an open_clip ViT with a class token"):
        check_architecture(source(name))


def test_published_weights_cover_the_towers_that_readme_lists() -> None:
    towers = "B-32 B-16 B-16-plus-240 L-14 L-14-336 H-14 g-14 bigG-14"
    assert {f"ViT-{tower}" for tower in towers.split()} <= RUN
    assert {family for family in FAMILIES if any(tag.startswith(family) for _, tag in PUBLISHED)} == set(FAMILIES)


@pytest.mark.parametrize(("name", "tag"), PUBLISHED)
def test_a_tag_is_taken_or_the_model_for_it_is_named(
    name: str, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is downloaded: where the activation does not match, the model that is named instead has the tag."""
    monkeypatch.setattr(open_clip, "download_pretrained", lambda published: str(tmp_path / "weights.pt"))
    config = ModelConfig(model=name, pretrained=tag)
    try:
        assert download_tag(config, name) == tmp_path / "weights.pt"
    except ModelError as refused:
        other = str(refused).rpartition("--model ")[2]
        assert (other, tag) in PUBLISHED and download_tag(replace(config, model=other), other)


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
