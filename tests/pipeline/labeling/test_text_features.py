"""Text features are encoded once on a machine; no file in the cache folder, and no lack of one, is an error."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scclip.encoder.checkpoints import LoadedCLIP, find_weights, load_clip
from scclip.encoder.config import ModelConfig
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.labeling import LabelingSetup
from scclip.pipeline.cluster.resources import ComputeConfig, Shape, divide
from scclip.pipeline.labeling import text_features as cache
from scclip.pipeline.labeling.text_features import text_features
from scclip.pipeline.run.files import RunFiles
from scclip.segmentation.types import SegmentationOptions
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def clip() -> LoadedCLIP:
    """The demo model."""
    return load_clip(find_weights(ModelConfig()))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that vocabularies were encoded on, one for each time."""
    devices, encode = list[str](), cache.encode_on

    def count(device: str, clip: LoadedCLIP, vocabulary: Vocabulary) -> np.ndarray:
        devices.append(device)
        return encode(device, clip, vocabulary)

    monkeypatch.setattr(cache, "encode_on", count)
    return devices


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the features are kept: a cache folder that does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scclip" / "text_features"


def test_two_runs_encode_once(clip: LoadedCLIP, encoded: list[str], tmp_path: Path) -> None:
    """What a run keeps in its OUTPUT stays its own, whatever the cache says."""
    resources = divide(ComputeConfig(), nodes=[Shape(cpus=2)])
    specs = []
    for name in ("first", "second"):
        options = LabelOptions(inputs=(str(tmp_path),), output=str(tmp_path / name))
        setup = LabelingSetup(
            options, clip.source, SegmentationOptions(), ComputeConfig(), Vocabulary.load("demo"), cuda=False
        )
        specs.append(setup.actor_spec(clip, resources, setup.files))
    assert encoded == ["cpu"]
    files = [tmp_path / name / "text_features.npy" for name in ("first", "second")]
    wanted = encode_queries(clip.model, clip.tokenizer, Vocabulary.load("demo"))
    for features in (*(spec.text_features for spec in specs), *map(np.load, files)):
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, wanted)
    np.save(files[1], wanted[::-1])
    own = setup.actor_spec(clip, resources, RunFiles(str(tmp_path / "second"))).text_features
    np.testing.assert_array_equal(own, wanted[::-1])


def test_what_determines_the_features_is_in_the_key(clip: LoadedCLIP) -> None:
    vocabulary, source = Vocabulary.load("demo"), clip.source

    def tokens(prompts: list[str]) -> torch.Tensor:
        return clip.tokenizer(prompts).flip(1)

    cases: list[tuple[LoadedCLIP, Vocabulary, str]] = [
        (clip, vocabulary, "cpu"),
        (clip, vocabulary, "cuda"),
        (clip, dataclasses.replace(vocabulary, templates=("a drawing of a {}.",)), "cpu"),
        (clip, dataclasses.replace(vocabulary, classes=vocabulary.classes[:-1]), "cpu"),
        (dataclasses.replace(clip, source=dataclasses.replace(source, digest="0" * 64)), vocabulary, "cpu"),
        (dataclasses.replace(clip, source=dataclasses.replace(source, quick_gelu=True)), vocabulary, "cpu"),
        (dataclasses.replace(clip, source=dataclasses.replace(source, open_clip_name="ViT-B-16")), vocabulary, "cpu"),
        (dataclasses.replace(clip, tokenizer=tokens), vocabulary, "cpu"),
    ]
    assert len({cache.features_key(*case) for case in cases}) == len(cases)
    moved = dataclasses.replace(source, open_clip_name="local-dir:elsewhere")
    name_only = dataclasses.replace(vocabulary, name="other", threshold=0.5)
    assert cache.features_key(dataclasses.replace(clip, source=moved), name_only, "cpu") == cache.features_key(
        *cases[0]
    )


def cut(file: Path) -> None:
    """As a full disk may leave it."""
    file.write_bytes(file.read_bytes()[:-8])


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def rename(file: Path) -> None:
    """A whole file, of another key."""
    text = Vocabulary.load("demo")
    data = np.zeros((len(text.queries), 8), np.float32)
    cache.write_cached("other", data)
    (file.parent / "other").replace(file)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, change, rename, empty])
def test_a_broken_file_is_made_anew(
    spoil: Callable[[Path], None], clip: LoadedCLIP, encoded: list[str], folder: Path
) -> None:
    vocabulary = Vocabulary.load("demo")
    first = text_features(clip, vocabulary)
    (file,) = folder.iterdir()
    spoil(file)
    for _ in range(2):
        np.testing.assert_array_equal(text_features(clip, vocabulary), first)
    assert encoded == ["cpu"] * 2
    assert list(folder.iterdir()) == [file]


def test_a_folder_that_cannot_be_used_is_done_without(
    clip: LoadedCLIP, encoded: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its place; no room on its disk; a user without a home."""
    vocabulary = Vocabulary.load("demo")
    folder.parents[1].write_text("no folder")
    first = text_features(clip, vocabulary)
    folder.parents[1].unlink()

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        np.testing.assert_array_equal(text_features(clip, vocabulary), first)
    assert not list(folder.iterdir())
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    np.testing.assert_array_equal(text_features(clip, vocabulary), first)
    assert encoded == ["cpu"] * 3


def test_a_full_gpu_leaves_it_to_the_cpu(clip: LoadedCLIP, encoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's features have a key of their own, the CPU's are kept as the CPU's."""
    count, vocabulary = cache.encode_on, Vocabulary.load("demo")

    def busy(device: str, clip: LoadedCLIP, vocabulary: Vocabulary) -> np.ndarray:
        if device == "cuda":
            raise torch.OutOfMemoryError("no room")
        return count(device, clip, vocabulary)

    monkeypatch.setattr(cache, "encode_on", busy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    first = text_features(clip, vocabulary, cuda=True)
    np.testing.assert_array_equal(text_features(clip, vocabulary, cuda=True), first)
    np.testing.assert_array_equal(text_features(clip, vocabulary), first)
    assert encoded == ["cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_encodes_what_the_cpu_does(clip: LoadedCLIP, encoded: list[str]) -> None:
    vocabulary = Vocabulary.load("demo")
    on_gpu, on_cpu = text_features(clip, vocabulary, cuda=True), text_features(clip, vocabulary)
    assert encoded == ["cuda", "cpu"]
    assert next(clip.model.parameters()).device.type == "cpu"
    np.testing.assert_allclose(on_gpu, on_cpu, atol=2e-6)
