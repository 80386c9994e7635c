"""What is kept of Ray's own lines while it starts."""

import os

import pytest

from scclip.jobs.cli.cluster import without_lines


def test_all_lines_but_one_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), without_lines(b"log level"):
        os.write(2, b"Set ray log level\nthe cluster is full\n")
        raise KeyError
    os.write(2, b"then log level again\n")
    assert capfd.readouterr().err == "the cluster is full\nthen log level again\n"
