"""A small labeled run that the tests of exports and comparisons read; labeled once, never changed."""

import io
from pathlib import Path

import pytest
from pictures import picture, write_shard
from PIL import Image

from scclip.jobs.cli.main import main

ORIENTATION = 0x0112


def turned_jpeg(seed: int) -> bytes:
    """A JPEG whose EXIF asks for a quarter turn."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(seed, (70, 130))).save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def run_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 4 and 5 images: one is turned by EXIF, one is broken."""
    root = tmp_path_factory.mktemp("inputs")
    write_shard(root / "a.tar", range(4))
    write_shard(root / "b.tar", range(4, 7), {"turned.jpg": turned_jpeg(40), "broken.jpg": b"\xff\xd8\xff\xe0 none"})
    return root


@pytest.fixture(scope="session")
def run_flags(small_model: str, vocabulary_file: Path) -> list[str]:
    """How that run is labeled."""
    flags = ["--model", small_model, "--vocabulary", str(vocabulary_file), "--precision", "float32"]
    return [*flags, "--max-failed", "0.2", "--exif", "ignore"]


@pytest.fixture(scope="session")
def saved_run(
    local_ray: None, run_inputs: Path, run_flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run, with masks and confidence."""
    output = tmp_path_factory.mktemp("runs") / "saved"
    saving = ["--masks", "png", "--save-confidence", "--confidence-threshold", "0.2"]
    assert main(["label", str(run_inputs), str(output), *run_flags, *saving]) == 0
    return output
