"""Every form of weights file that people have: equal features and text features, or one line that says what to do."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from towers import SMALL16, clip, model_config, write_local_dir

from scclip.encoder import checkpoints
from scclip.encoder.checkpoints import LoadedCLIP, find_weights, load_clip, normalisation, sha256_of
from scclip.encoder.config import ModelConfig
from scclip.encoder.state_dicts import Geometry, read_state_dict
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import ModelError

State = Mapping[str, torch.Tensor]
SIZES = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
PIXELS = torch.randn(1, 3, 96, 144, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def state() -> State:
    return clip().state_dict()


def folder(path: Path, write: Callable[[Path], object], **vision: int) -> ModelConfig:
    """A local directory whose weights `write` writes, with the small CLIP's config."""
    path.mkdir()
    config = model_config(SMALL16)
    config["vision_cfg"].update(vision)
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    write(path / "weights.pt")
    return ModelConfig(model=f"local-dir:{path}")


def load(config: ModelConfig) -> LoadedCLIP:
    return load_clip(find_weights(config))


def check_equal(loaded: LoadedCLIP, expected: Any, tolerance: float = 0) -> None:
    """Features of pictures and of texts equal those of open_clip's own model."""
    patches = SelfCalibratedCLIP(expected.visual).encode_patches(PIXELS)
    torch.testing.assert_close(loaded.visual().encode_patches(PIXELS), patches, rtol=tolerance, atol=tolerance)
    tokens = open_clip.tokenize(["a photo of a cat"], context_length=expected.context_length)
    ours = loaded.model.encode_text(loaded.tokenizer(["a photo of a cat"]))
    torch.testing.assert_close(ours, expected.encode_text(tokens).detach(), rtol=tolerance, atol=tolerance)


def long(state: State, prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


FORMS: dict[str, Callable[[State], Any]] = {
    "plain": dict,
    "openai": lambda s: {**s, **{name: torch.tensor(value) for name, value in SIZES.items()}},
    "mask": lambda s: {**s, "attn_mask": torch.zeros(77, 77)},
    "state_dict": lambda s: {"epoch": 3, "name": "x", "state_dict": long(s, "module."), "optimizer": {"state": {}}},
    "model": lambda s: {"args": argparse.Namespace(lr=0.1), "model": dict(s)},
    "nested": lambda s: {"checkpoint": 1, "model": {"step": 1, "state_dict": long(s, "module._orig_mod.")}},
    "module": lambda s: {"module": dict(s), "ds_version": "0.1"},
    "lightning": lambda s: {"state_dict": {**long(s, "clip_model."), "loss.weight": torch.ones(3)}},
    "scalar": lambda s: {**s, "logit_scale": s["logit_scale"].reshape(1)},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_checkpoints(form: str, zipped: bool, state: State, tmp_path: Path) -> None:
    content = FORMS[form](state)

    def write(file: Path) -> None:
        torch.save(content, file, _use_new_zipfile_serialization=zipped)

    check_equal(load(folder(tmp_path / "model", write)), clip())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_half_precision_is_widened(
    dtype: torch.dtype, save: Callable[[dict[str, torch.Tensor], Path], None], state: State, tmp_path: Path
) -> None:
    half = {name: tensor.to(dtype).contiguous() for name, tensor in state.items()}
    expected = clip().to(dtype).float()
    check_equal(load(folder(tmp_path / "model", lambda file: save(half, file))), expected)


def test_an_archive_of_openai(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript with OpenAI's sizes in half precision; only a published digest is loaded, and never a directory."""
    model = clip()
    for name, value in SIZES.items():
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    examples = {"encode_image": torch.zeros(1, 3, 224, 224), "encode_text": torch.zeros(1, 77, dtype=torch.int64)}
    file = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.trace_module(model, examples, check_trace=False), file)
    read = read_state_dict(file, torchscript=True)
    assert read.keys() - {"attn_mask"} == {*state, *SIZES} and all(
        torch.equal(read[name], state[name]) for name in state
    )
    monkeypatch.setattr(checkpoints, "published_digests", lambda: {sha256_of(file): True})
    with pytest.raises(ModelError, match=r"archive\.pt are of a vision tower of 12 blocks.* ViT-B-16 has 12 blocks"):
        load(ModelConfig(model="ViT-B-16", pretrained=str(file)))
    with pytest.raises(ModelError, match="TorchScript"):
        read_state_dict(file)


def test_sizes_come_from_the_weights(tmp_path: Path) -> None:
    """Another image size and another context length: what was trained is used, and nothing is resized twice."""
    sizes = {**SMALL16, "input_resolution": 336}
    config = model_config(sizes)
    config["text_cfg"]["context_length"] = 32
    expected = open_clip.CLIP(**config).eval()
    given = folder(tmp_path / "model", lambda file: torch.save(expected.state_dict(), file))
    loaded = load(given)
    assert loaded.model.visual.grid_size == (21, 21) and loaded.tokenizer(["cat"]).shape == (1, 32)
    check_equal(loaded, expected)


def test_openai_tensors_in_a_model_with_gelu_are_refused(state: State, tmp_path: Path) -> None:
    given = folder(tmp_path / "model", lambda file: torch.save(FORMS["openai"](state), file))
    file = tmp_path / "model" / "open_clip_config.json"
    file.write_text(file.read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    with pytest.raises(ModelError, match="add --quick-gelu"):
        load(given)
    check_equal(load(ModelConfig(model=given.model, quick_gelu=True)), clip())


def part(state: State, prefix: str, cut: str = "") -> dict[str, torch.Tensor]:
    return {name.removeprefix(cut): tensor for name, tensor in state.items() if name.startswith(prefix)}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "vision": (lambda s: part(s, "visual.", "visual."), "without its text tower; give the file of the whole CLIP"),
    "visual": (lambda s: part(s, "visual."), "without its text tower; give the file of the whole CLIP"),
    "text": (lambda s: {k: v for k, v in s.items() if "visual" not in k}, "without its vision tower"),
    "transformers": (lambda s: {"vision_model.embeddings.class_embedding": s["visual.proj"]}, "Hugging Face's"),
    "other": (lambda s: {"fc.weight": s["visual.proj"]}, r"no CLIP ViT with a class token \(fc.weight\)"),
    "list": (lambda s: [s["visual.proj"]], "no tensors"),
    "module": (lambda s: torch.nn.Linear(2, 2), r"holds torch.nn.modules.linear.Linear.*state_dict\(\)"),
    "missing": (lambda s: {k: v for k, v in s.items() if "ln_post" not in k}, "do not fit.*ln_post.*check --model"),
    "shallow": (lambda s: {k: v for k, v in s.items() if "visual.transformer.resblocks.11." not in k}, "of 11 blocks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_whole_clip_is_one_line(name: str, state: State, tmp_path: Path) -> None:
    build, words = WRONG[name]
    check_refused(folder(tmp_path / "model", lambda file: torch.save(build(state), file)), words)


def check_refused(config: ModelConfig, words: str) -> None:
    with pytest.raises(ModelError, match=words) as refused:
        load(config)
    message = str(refused.value)
    assert "\n" not in message and "weights.pt" in message and ";" in message
    assert "weights_only" not in message


BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; copy or download"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page"),
    "error": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "words": (b"Not found", "damaged.*; copy or download"),
}


@pytest.mark.parametrize("name", BYTES)
def test_what_is_no_weights_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, words = BYTES[name]
    check_refused(folder(tmp_path / "model", lambda file: file.write_bytes(content)), words)


@pytest.mark.parametrize("form", ["zip", "pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_one_line(form: str, share: float, state: State, tmp_path: Path) -> None:
    def write(file: Path) -> None:
        if form == "safetensors":
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
        else:
            torch.save(dict(state), file, _use_new_zipfile_serialization=form == "zip")
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    check_refused(folder(tmp_path / "model", write), "damaged")


def test_weights_of_another_architecture_name_theirs(tmp_path: Path) -> None:
    geometry = Geometry(layers=32, patch=14, width=1280, image_size=224, context_length=77)
    assert geometry.names()[0] == "ViT-H-14" and "RN50" not in geometry.names()
    directory = write_local_dir(tmp_path / "model")
    with pytest.raises(ModelError, match=r"of 12 blocks, patch 16, width 128, model ViT-B-32 has 12 blocks, patch 32"):
        load(ModelConfig(model="ViT-B-32", pretrained=str(directory / "open_clip_model.safetensors")))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-16-SigLIP", "class token"),
        ("RN50", "ModifiedResNet"),
        ("EVA02-B-16", "tower Eva is not supported; use an open_clip ViT"),
    ],
)
def test_unsupported_architectures_are_refused_before_the_file_is_read(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"never read")
    with pytest.raises(ModelError, match=words) as refused:
        load(ModelConfig(model=name, pretrained=str(tmp_path / "weights.pt")))
    assert "\n" not in str(refused.value)


def test_a_tag_brings_its_own_normalisation(tmp_path: Path) -> None:
    """LAION's first ViT-L/14 was trained with mean and deviation 0.5."""
    file = write_local_dir(tmp_path / "model") / "open_clip_model.safetensors"
    config = ModelConfig(model="ViT-L-14", pretrained="laion2b_s32b_b82k")
    source = checkpoints.WeightsSource(
        config=config, open_clip_name="ViT-L-14", file=file, digest="", quick_gelu=False, settings={}
    )
    assert normalisation(source, clip()) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
