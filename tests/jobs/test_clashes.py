"""People's own files with common names do no harm: in the current folder, on PYTHONPATH, or both."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pictures import write_shard
from processes import QUICK, contents
from rayhead import cluster, head

UNITS = 9  # more than an export does without Ray
MODULES = ("pipeline", "jobs", "plan", "statistics", "storage", "queue")
FATAL = "raise SystemExit('shadowed: ' + __file__)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder: packages and modules of these names, and shards."""
    root = tmp_path_factory.mktemp("clashes") / "project"
    for name in MODULES[:2]:
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text(FATAL)
    for name in MODULES[2:]:
        (root / f"{name}.py").write_text(FATAL)
    for number in range(UNITS):
        write_shard(root / "in" / f"{number}.tar", [number])
    return root


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry of PYTHONPATH: modules of all these names, and one that shall stay reachable."""
    root = tmp_path_factory.mktemp("library")
    for name in MODULES:
        (root / f"{name}.py").write_text(FATAL)
    (root / "sitecustomize.py").write_text("import sys; sys.reached_by_pythonpath = True\n")
    return root


def scclip(folder: Path, library: Path | None, words: Sequence[object], console: bool = False) -> str:
    """What `scclip WORDS` says in that folder; it must succeed."""
    command = [str(Path(sys.executable).with_name("scclip"))] if console else [sys.executable, "-m", "scclip"]
    env = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    if library:
        env["PYTHONPATH"] = os.pathsep.join([str(folder), str(library)])
    ran = subprocess.run(
        [*command, *map(str, words)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0 and "shadowed" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_verbs_run_among_files_of_these_names(folder: Path, library: Path) -> None:
    """Relative paths, as people type them; labeling and this export start workers in that folder."""
    said = scclip(folder, library, ["label", "in", "out/labels", *QUICK])
    assert f"{UNITS} images read, {UNITS} labeled" in said and (folder / "out" / "labels" / "summary.json").is_file()
    assert "report:" in scclip(folder, library, ["report", "out/labels"], console=True)
    scclip(folder, library, ["export", "out/labels", "out/png", "--format", "png"])
    assert (folder / "out" / "png" / "summary.json").is_file()


@pytest.mark.slow
def test_names_that_workers_import_late_stay_python_s_and_the_packages_own(tmp_path: Path) -> None:
    """In a Ray of its own and in a cluster's: nothing of the current folder comes first on a worker's path."""
    late = ("difflib", "gzip", "statistics", "queue", "PIL", "numpy", "pyarrow", "fsspec", "torch", "open_clip")
    for name in late:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(FATAL)
    for number in range(UNITS):
        write_shard(tmp_path / "in" / f"{number}.tar", [number])
    with cluster(2) as (_, address):
        for name, where in (("own", []), ("joined", ["--address", address])):
            scclip(tmp_path, None, ["label", "in", f"out/{name}", *QUICK, *where])
            scclip(
                tmp_path, None, ["export", f"out/{name}", f"out/{name}-png", "--format", "png", *where], console=True
            )
    assert contents(tmp_path / "out" / "own") == contents(tmp_path / "out" / "joined")


@pytest.mark.slow
def test_a_job_is_submitted_from_such_a_folder(folder: Path, library: Path, tmp_path: Path) -> None:
    with head(cpus=2) as url:
        words = ["submit", "--address", url, "--", "label", folder / "in", tmp_path / "labels", *QUICK]
        assert f"{UNITS} images read, {UNITS} labeled" in scclip(folder, library, words)


def test_entries_of_pythonpath_stay_reachable(folder: Path, library: Path) -> None:
    """Only the standard library comes before them, here and in the processes that are started from here."""
    script = (
        "import scclip.__main__, os, sys, statistics, queue\n"
        "from scclip.jobs.cli.paths import python_path\n"
        "print(sys.reached_by_pythonpath, python_path().split(os.pathsep)[-1] in sys.path, statistics.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(library)}
    ran = subprocess.run([sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True)
    assert ran.stdout.split()[:2] == ["True", "True"] and str(library) not in ran.stdout.split()[2], ran.stderr
