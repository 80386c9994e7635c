"""The pages in a browser, where there is one: their own script runs under their policy, and nothing else does."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from classed_runs import class_names, classed_run, label_maps

from scclip.jobs.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr"]
TOUCH = """<script>{
const at = (x, y, type) => new PointerEvent(type, {clientX: x, clientY: y, pointerType: "touch", bubbles: true});
const svg = document.querySelectorAll("article .views svg")[1], box = svg.getBoundingClientRect();
const touched = [box.x + RIGHT * box.width, box.y + DOWN * box.height];
svg.dispatchEvent(at(...touched, "pointerdown"));
svg.dispatchEvent(at(...touched, "pointerleave"));
}</script>"""
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


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize(("right", "down"), [(0.31, 0.33), (0.52, 0.47), (0.71, 0.64)])
def test_a_finger_names_the_class_until_it_comes_down_elsewhere(tmp_path: Path, right: float, down: float) -> None:
    """The name beside the finger and the highlighted one of the legend are the label map's at that pixel."""
    run = classed_run(tmp_path, 14)
    assert main(["report", str(run), "--pictures", "1"]) == 0
    page = run / "report.html"
    text = re.sub(r"<meta http-equiv=.Content-Security-Policy.*", "", page.read_text())
    page.write_text(text.replace("</body>", TOUCH.replace("RIGHT", str(right)).replace("DOWN", str(down)) + "</body>"))
    document, _ = opened(page, tmp_path)
    key = re.search(r'<p class="soft">(.*?), \d+ ×', document)
    tip = re.search(r'<div class="tip"[^>]*>(.*?)</div>', document)
    assert key is not None and tip is not None
    plane = label_maps(run)[html.unescape(key[1])]
    label = int(plane[int(down * plane.shape[0]), int(right * plane.shape[1])])
    name = class_names(14)[label - 1] if label <= 14 else "not labeled"
    under = re.findall(r'<li data-colour="[^"]*" class="(?:chosen )?under">.*?</svg>(.*?)</span>', document, re.S)
    assert html.unescape(tip[1]) == name and list(map(html.unescape, under)) == ([name] if label <= 14 else [])
