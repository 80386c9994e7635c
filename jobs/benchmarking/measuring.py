"""How the benchmarks measure and report: rounds in turn, medians with their spread, a short table, one JSON line.

    times = alternate({"plain": plain, "ours": ours}, repeats=5)
    report("model.encode", options, figures, rows, device)

What is compared runs in turn in one process, so that other load on the machine slows both. The CPU seconds of the
process are kept beside the wall clock: on a shared machine they vary less.
"""

import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import torch

from scclip.jobs.cli.talk import json_line, tell

LIBRARIES = ("scclip-pipeline", "torch", "open_clip_torch", "numpy", "pillow", "pycocotools", "pyarrow", "ray")

Rows: TypeAlias = Sequence[Sequence[object]]


@dataclass(frozen=True)
class Times:
    """Seconds of every round of one function, in order."""

    wall: list[float]
    """Seconds by the clock."""
    cpu: list[float]
    """CPU seconds of all threads of this process."""

    def summary(self, items: float = 1.0) -> dict[str, float]:
        """Median and extremes in seconds per round, and the rate of `items` (images, say) that one round handles."""
        median = statistics.median(self.wall)
        return {
            "median_s": round(median, 6),
            "min_s": round(min(self.wall), 6),
            "max_s": round(max(self.wall), 6),
            "cpu_s": round(statistics.median(self.cpu), 6),
            "repeats": len(self.wall),
            "per_second": round(items / median, 3),
        }


def alternate(functions: Mapping[str, Callable[[], Any]], repeats: int, device: str = "cpu") -> dict[str, Times]:
    """Runs every function once to warm up, then `repeats` rounds of all functions in turn."""
    for function in functions.values():
        function()
    times = {name: Times([], []) for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = timed(function, device)
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
    return times


def timed(function: Callable[[], Any], device: str = "cpu") -> tuple[float, float]:
    """Wall and CPU seconds of one call; on a GPU until all its work is done."""
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def synchronize(device: str) -> None:
    """Waits for the GPU where there is one."""
    if device == "cuda":
        torch.cuda.synchronize()


def ratio(slow: Times, fast: Times) -> dict[str, float]:
    """How many times as fast `fast` is: the median over the rounds by wall and by CPU seconds, the wall's extremes."""
    wall = [a / b for a, b in zip(slow.wall, fast.wall, strict=True)]
    cpu = [a / b for a, b in zip(slow.cpu, fast.cpu, strict=True)]
    return {
        "wall": round(statistics.median(wall), 3),
        "wall_min": round(min(wall), 3),
        "wall_max": round(max(wall), 3),
        "cpu": round(statistics.median(cpu), 3),
    }


def hardware(device: str = "cpu") -> dict[str, object]:
    """Processor, cores, threads, instruction set, load, and the GPU's name where it is used."""
    return {
        "cpu": system_fact("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "bf16": bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()),
        "load": round(os.getloadavg()[0], 2),
        **({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of those of `LIBRARIES` that are installed."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def memory_mib(what: str = "VmRSS") -> int:
    """A memory figure of this process from Linux's /proc, in MiB; 0 on other systems.

    VmRSS counts pages of libraries and the object store too, which others share; RssAnon does not. VmHWM is the peak.
    """
    figure = system_fact("/proc/self/status", what)
    return int(figure.split()[0]) // 1024 if figure else 0


def system_fact(path: str, name: str) -> str:
    """The value of the first line `NAME: VALUE` in a file of Linux's /proc; "" where there is none."""
    try:
        with open(path) as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


def report(bench: str, options: object, figures: Mapping[str, object], rows: Rows, device: str) -> None:
    """Prints the table and then one line of JSON with the hardware, versions, options and figures.

    Args:
        bench: name of the measurement, e.g. `model.encode`.
        options: a dataclass or a mapping of what was measured.
        figures: the results, added to the line as they are.
        rows: the table; its first row is the head.
        device: `cpu` or `cuda`.
    """
    tell(*table(rows).split("\n"))
    line = {
        "bench": bench,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "hardware": hardware(device),
        "versions": versions(),
        "options": asdict(options) if is_dataclass(options) and not isinstance(options, type) else options,
        **figures,
    }
    print(json_line(line))
    sys.stdout.flush()


def table(rows: Rows) -> str:
    """Rows as aligned columns, a line below the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
