"""The job as a person runs it, a process of its own; and what a run must reproduce."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

POISON = Path(__file__).parent / "poison"
KINDS = ("coco", "segments", "masks", "images")
QUICK_WINDOWS = {"short_side": 64, "window": 64, "stride": 32, "window_batch": 4}
QUICK = ["--precision", "float32"]
QUICK += [word for name, value in QUICK_WINDOWS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
"""Flags with which the small model takes milliseconds an image: what is tested is everything around it."""


def start(words: Sequence[Any], env: Mapping[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
    """`scclip WORDS` as a process group of its own."""
    command = [sys.executable, "-m", "scclip", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, env={**clean, **(env or {})}, **{**pipes, **options})


def run(words: Sequence[Any], env: Mapping[str, str] | None = None, timeout: float = 300) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `scclip WORDS`."""
    process = start(words, env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def children(pid: int) -> list[int]:
    """Processes that any thread of `pid` has started; [] once it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def title(pid: int) -> str:
    """The command line of a process, "" once it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def contents(output: Path) -> dict[str, Any]:
    """What is reproducible: the bytes of coco/, segments/, masks/; images/ without `seconds`."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        for path in sorted((output / kind).glob("[!.]*")):
            name = f"{kind}/{path.name}"
            found[name] = pq.read_table(path).drop(["seconds"]).to_pylist() if kind == "images" else path.read_bytes()
    return found


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows of images/, in the order of the ids."""
    return [row for path in sorted((output / "images").glob("[!.]*")) for row in pq.read_table(path).to_pylist()]


def said(err: str) -> list[str]:
    """What the command itself says on stderr: neither progress nor Ray's own lines."""
    return [line for line in err.splitlines() if line.startswith("scclip")]
