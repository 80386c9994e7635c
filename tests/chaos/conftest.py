"""What the chaos tests label, and the undisturbed run that they compare with."""

from pathlib import Path

import pytest
from pictures import encoded, tar_bytes
from processes import quick_flags, run


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight shards of eight small pictures."""
    root = tmp_path_factory.mktemp("chaos") / "in"
    root.mkdir()
    for number in range(8):
        seeds = range(8 * number, 8 * number + 8)
        (root / f"{number}.tar").write_bytes(tar_bytes({f"{seed:04d}.png": encoded(seed) for seed in seeds}))
    return root


@pytest.fixture(scope="session")
def flags(small_model: str, vocabulary_file: Path) -> list[str]:
    return quick_flags(small_model, vocabulary_file, "--chunk-size", "2", "--masks", "png")


@pytest.fixture(scope="session")
def reference(shards: Path, flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    output = tmp_path_factory.mktemp("reference") / "out"
    code, _, err = run(["label", shards, output, *flags], timeout=900)
    assert code == 0, err
    return output
