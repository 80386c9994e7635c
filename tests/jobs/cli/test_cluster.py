"""How a local Ray starts: what is kept of its own lines, and where its files lie."""

import os

import pytest

from scclip.errors import UserError
from scclip.jobs.cli.cluster import SOCKET_BYTES, start_local, without_lines


def test_all_lines_but_one_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), without_lines(b"log level"):
        os.write(2, b"Set ray log level\nthe cluster is full\n")
        raise KeyError
    os.write(2, b"then log level again\n")
    assert capfd.readouterr().err == "the cluster is full\nthen log level again\n"


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_named_before_ray_starts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started = list[str]()
    monkeypatch.setattr("ray.init", lambda **options: started.append(os.environ.get(name, "")))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder in ("/" + "long" * 40, "/tmp/" + "é" * 30, "/scratch/users/somebody/jobs/0123456789/tmp"):
        monkeypatch.setenv(name, folder)
        with pytest.raises(UserError, match=f"^{name} {folder[:40]}.* shorter folder") as error:
            start_local()
        assert str(SOCKET_BYTES) in str(error.value) and len(str(error.value)) < 200
    for folder in ("/tmp", "/var/tmp/somebody", "/" + "d" * 30):
        monkeypatch.setenv(name, folder)
        start_local()
        assert started[-1] == folder
