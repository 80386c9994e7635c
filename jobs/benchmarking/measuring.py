"""How the benchmarks measure and report: alternation, medians with their spread, one JSON line, a short table.

    times = alternate({"plain": plain, "ours": ours}, repeats=5)
    report("model.encode", options, figures, rows, device)

Two things are compared in turn in one process, so that whatever else the machine does falls on both. Beside the wall
clock the CPU seconds of the process are kept: on a machine that others use they are the steadier figure.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

LIBRARIES = ("scclip-pipeline", "torch", "open_clip_torch", "numpy", "pillow", "pycocotools", "pyarrow", "ray")


@dataclass(frozen=True)
class Times:
    """Seconds of every repetition of one thing, in order."""

    wall: list[float]
    cpu: list[float]
    """CPU seconds of all threads of this process."""

    def summary(self, unit: float = 1.0) -> dict[str, Any]:
        """Median and spread, `unit` (images, say) divided by nothing: seconds per repetition, and units per second."""
        median = statistics.median(self.wall)
        return {
            "median_s": round(median, 6),
            "min_s": round(min(self.wall), 6),
            "max_s": round(max(self.wall), 6),
            "cpu_s": round(statistics.median(self.cpu), 6),
            "repeats": len(self.wall),
            "per_second": round(unit / median, 3),
        }


def alternate(functions: Mapping[str, Callable[[], Any]], repeats: int, device: str = "cpu") -> dict[str, Times]:
    """Runs every function once to warm up, then `repeats` rounds of one after the other."""
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
    """Wall and CPU seconds of one call; on a GPU until its queue is empty."""
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
    """How many times as fast `fast` is: median over the rounds of wall and of CPU seconds, and their extremes."""
    wall = [a / b for a, b in zip(slow.wall, fast.wall, strict=True)]
    cpu = [a / b for a, b in zip(slow.cpu, fast.cpu, strict=True)]
    return {
        "wall": round(statistics.median(wall), 3),
        "wall_min": round(min(wall), 3),
        "wall_max": round(max(wall), 3),
        "cpu": round(statistics.median(cpu), 3),
    }


def hardware(device: str = "cpu") -> dict[str, Any]:
    """What the machine says of itself."""
    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "bf16": bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()),
        "load": round(os.getloadavg()[0], 2),
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_mib() -> int:
    """The most memory this process has held, MiB."""
    return memory_mib("VmHWM")


def memory_mib(what: str = "VmRSS", process: int | str = "self") -> int:
    """A memory figure of a process from Linux's /proc, MiB; 0 elsewhere."""
    try:
        with open(f"/proc/{process}/status") as lines:
            return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(what))
    except (OSError, StopIteration):
        return 0


def report(bench: str, options: Any, figures: Mapping[str, Any], rows: Sequence[Sequence[Any]], device: str) -> None:
    """Prints a table whose first row is its head, then the JSON line."""
    print(table(rows))
    line = {
        "bench": bench,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "hardware": hardware(device),
        "versions": versions(),
        "options": options if isinstance(options, Mapping) else asdict(options),
        **figures,
    }
    print(json.dumps(line, separators=(",", ":"), ensure_ascii=False, default=str))
    sys.stdout.flush()


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
