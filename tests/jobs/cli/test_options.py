"""What YAML makes of words, as options have them."""

from pathlib import Path

import pytest

from scclip.errors import UserError
from scclip.jobs.options.export import parser as export_parser
from scclip.jobs.options.label import parser


@pytest.mark.parametrize("word", ["no", "off", "false", "none", '"none"', "null"])
def test_no_masks_are_none(tmp_path: Path, word: str) -> None:
    (tmp_path / "c.yaml").write_text(f"masks: {word}\nsave_confidence: yes\n")
    label, *_ = parser().parse(["in", "out", "--config", str(tmp_path / "c.yaml")])
    assert label.masks == "none" and label.save_confidence is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("masks: yes", "masks: yes is a truth value to YAML; choose none, png"),
        ("exif: off", "exif: no is a truth value to YAML; choose apply, ignore"),
        ("max_failed: no", "max_failed: no is a truth value to YAML; give a number"),
        ("vocabulary: on", "vocabulary: yes is a truth value to YAML; quote it"),
        ("inputs: [a, no]", "inputs: no is a truth value to YAML; quote it"),
    ],
)
def test_other_truth_values_are_named_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(f"{line}\n")
    with pytest.raises(UserError) as error:
        parser().parse(["in", "out", "--config", str(tmp_path / "c.yaml")])
    assert str(error.value) == f"--config {tmp_path / 'c.yaml'}: {message}"


def test_switches_take_truth_values(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("images: yes\ncomponents: no\nval: 0.1\n")
    options, selection = export_parser().parse(["run", "out", "--config", str(tmp_path / "c.yaml")])
    assert (options.images, options.components, selection.val) == (True, False, 0.1)
