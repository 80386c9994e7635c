"""Whatever is printed or logged while a command runs, whoever does, holds no credentials."""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError
from secret_forms import SECRET, TEXTS, URLS
from tqdm import tqdm

from scclip.errors import UserError, one_line
from scclip.jobs import status
from scclip.jobs.cli.main import main
from scclip.jobs.cli.streams import HiddenStream

FORMS = URLS | TEXTS
LOGGER = logging.getLogger("somebody.else")


def chained(text: str) -> None:
    try:
        raise KeyError(text)
    except KeyError:
        raise OSError(f"cannot read {text}") from ValueError(text)


def of_the_user(text: str) -> None:
    raise UserError(text)


def through_ray(text: str) -> None:
    remote = f"\x1b[36mray::read()\x1b[39m (pid=7)\n  File 'x.py', line 1\nOSError: cannot read {text}"
    raise RayTaskError("read", remote, OSError(text))


def in_pieces(text: str) -> None:
    for piece in [text[start : start + 3] for start in range(0, len(text), 3)]:
        print(piece, end="", file=sys.stderr)
    print()
    sys.stdout.writelines([text[:9], text[9:]])


def logged(text: str) -> None:
    LOGGER.warning("cannot read %s, %d", text, 3)
    LOGGER.warning("%d", text)  # does not fit
    try:
        raise OSError(text)
    except OSError:
        LOGGER.exception("failed")


def in_a_thread(text: str) -> None:
    thread = threading.Thread(target=chained, args=(text,))
    thread.start()
    thread.join()


def in_a_bar(text: str) -> None:
    with tqdm(total=2, desc=text, file=sys.stderr, disable=False) as bar:
        bar.update()
        bar.write(text)


def when_deleted(text: str) -> None:
    class Broken:
        def __del__(self) -> None:
            raise OSError(text)

    Broken()


def warned(text: str) -> None:
    warnings.warn(f"slower: {text}", stacklevel=1)


WAYS: list[Callable[[str], None]] = [
    chained, of_the_user, through_ray, in_pieces, logged, in_a_thread, in_a_bar, when_deleted, warned,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("traced", ["-v", "SCCLIP_TRACEBACK"])
def test_nothing_that_is_said_holds_credentials(
    way: Callable[[str], None],
    traced: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr(warnings, "showwarning", lambda *given, **named: sys.stderr.write(str(given[0])))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    if traced == "SCCLIP_TRACEBACK":
        monkeypatch.setenv(traced, "1")
    file = logging.FileHandler(tmp_path / "log")
    LOGGER.addHandler(file)
    for text in FORMS.values():
        with monkeypatch.context() as patched:
            patched.setattr(status, "status", lambda *options, text=text: way(text) or 0)
            code = main(["status", "run", *(["-v"] if traced == "-v" else [])])
        assert code == {chained: 1, through_ray: 1, of_the_user: 2}.get(way, 0)
    LOGGER.removeHandler(file)
    out, err = capfd.readouterr()
    said = out + err + (tmp_path / "log").read_text()
    assert SECRET not in said and len(said) > 20 * len(FORMS)
    assert ("Traceback" in said) == (
        way in (chained, through_ray, logged, in_a_thread, when_deleted) or ("S" in traced and way is of_the_user)
    )
    assert "\x1b" not in said


def test_a_line_is_passed_on_when_it_is_whole_or_flushed(capsys: pytest.CaptureFixture[str]) -> None:
    stream = HiddenStream(sys.stdout)
    seen = []
    for action in (lambda: stream.write("a\nb"), lambda: stream.write("c\rd"), stream.flush, lambda: stream.write("e")):
        action()
        seen.append(capsys.readouterr().out)
    assert seen == ["a\n", "bc\r", "d", ""] and stream.encoding == sys.stdout.encoding


@pytest.mark.parametrize("form", FORMS)
def test_a_message_is_never_cut_inside_a_secret(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for before in range(90, 200):
        print(one_line(OSError(f"{'x' * before} {FORMS[form]}")), file=HiddenStream(sys.stdout))
    said = capsys.readouterr().out
    assert said and not any(SECRET[:size] in said for size in range(4, len(SECRET)))
