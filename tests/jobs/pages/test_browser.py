"""The pages in a browser, where there is one: their own script runs under their policy, and nothing else does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from classed_runs import classed_run

from scclip.jobs.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr"]
STRANGER = "<img src=x onerror=\"document.title = 'steered'\"><b style='color: red'>"


def opened(page: Path, folder: Path) -> tuple[str, str]:
    """The document after its script has run, and what the browser says on its console."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return run.stdout, "\n".join(line for line in run.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_the_page_runs_its_own_script_and_no_strangers(tmp_path: Path) -> None:
    run = classed_run(tmp_path, 300)
    assert main(["report", str(run), "--pictures", "2"]) == 0
    page = run / "report.html"
    document, console = opened(page, tmp_path)
    assert re.search(r'<div class="tip" hidden="">', document) and 'class="tools" hidden' not in document
    assert not console
    page.write_text(page.read_text().replace("</h1>", f"</h1>{STRANGER}", 1))
    document, console = opened(page, tmp_path)
    assert "<title>steered" not in document and console.count("Content Security Policy") >= 3
