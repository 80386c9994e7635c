"""What the chaos tests label, and the undisturbed run that they compare with."""

from pathlib import Path

import pytest
from pictures import encoded, tar_bytes
from processes import quick_flags, run

from scclip.pipeline.inputs.groups import grouped
from scclip.pipeline.inputs.plan import plan_units


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of eight small pictures among 64 of one, which share tasks."""
    root, first = tmp_path_factory.mktemp("chaos") / "in", 0
    root.mkdir()
    for number in range(68):
        seeds = range(first, first := first + (8 if number % 17 == 0 else 1))
        (root / f"{number:02d}.tar").write_bytes(tar_bytes({f"{seed:04d}.png": encoded(seed) for seed in seeds}))
    assert {len(group) for group in grouped(plan_units([str(root)]))} == {4}
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
