"""The job as a person runs it, a process of its own; and what a run must reproduce."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

POISON = Path(__file__).parent / "poison"
KINDS = ("coco", "segments", "masks", "images")
SCRIPT = """
import json, os, resource, sys
from scclip.jobs.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code or 0
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = sorted({"torch", "ray", "open_clip", "scipy"} & set(sys.modules))
print(json.dumps({"code": code, "heavy": heavy, "seconds": used.ru_utime + used.ru_stime}), flush=True)
os._exit(0)  # PyTorch's and Ray's threads may abort a process whose command is no program of its own
"""
QUICK_WINDOWS = {"short_side": 64, "window": 64, "stride": 32, "window_batch": 4}
QUICK = ["--precision", "float32"]
QUICK += [word for name, value in QUICK_WINDOWS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
"""Flags with which the small model takes milliseconds an image: what is tested is everything around it."""


PEAK = """
def peak():
    '''Bytes that this process has held at most; getrusage would count those of the one that started it as well.'''
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
"""


def quick_flags(model: str, vocabulary: Path, *more: str) -> list[str]:
    """Options of `scclip label` for the small model, and more of them."""
    return ["--model", model, "--vocabulary", str(vocabulary), *QUICK, *more]


def start(words: Sequence[Any], env: Mapping[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
    """`scclip WORDS` as a process group of its own."""
    command = [sys.executable, "-m", "scclip", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, env={**clean, **(env or {})}, **{**pipes, **options})


def run(
    words: Sequence[Any], env: Mapping[str, str] | None = None, timeout: float = 300, **options: Any
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `scclip WORDS`."""
    process = start(words, env, **options)
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
    """What the command itself says on stderr: no progress, no waiting for a busy machine, not Ray's lines."""
    return [line for line in err.splitlines() if line.startswith("scclip") and ": waiting for " not in line]


def outcome(words: Sequence[str]) -> tuple[int, list[str], float, str]:
    """(exit code, heavy modules that were imported, CPU seconds, stdout) of `scclip WORDS` in a fresh process."""
    command = [sys.executable, "-c", SCRIPT, *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout.splitlines()[-1])
    return facts["code"], facts["heavy"], facts["seconds"], ran.stdout
