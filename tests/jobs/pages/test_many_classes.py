"""The page of a run of many classes: what the script of the page reads, folded legends, one unit."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from classed_runs import class_names, classed_run, label_maps
from PIL import Image

from scclip.jobs.cli.main import main

ARTICLE = re.compile(r"<article.*?</article>", re.S)


@pytest.fixture(scope="module", params=[14, 171, 1000])
def classes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, classes: int) -> Path:
    run = classed_run(tmp_path_factory.mktemp("run"), classes)
    assert main(["report", str(run), "--pictures", "6"]) == 0
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text()


def test_the_colour_of_a_pixel_tells_its_class(run: Path, page: str, classes: int) -> None:
    """Names by colour are the label map's, but for stripes, white edges and ignored pixels."""
    found = re.search(r'<script type="application/json" id="names">(.*?)</script>', page)
    assert found is not None
    names, maps, known = json.loads(found[1]), label_maps(run), class_names(classes)
    assert sorted(names.values()) == sorted(known)
    articles = ARTICLE.findall(page)
    assert len(articles) >= 6
    for article in articles:
        key = re.search(r'<p class="soft">(.*?), \d+ ×', article)
        mask = re.search(r'class="mask"[^>]*base64,([^"]+)"', article)
        assert key is not None and mask is not None
        drawn, plane = np.asarray(Image.open(io.BytesIO(base64.b64decode(mask[1])))), maps[key[1]]
        assert drawn.shape[:2] == plane.shape
        told = 0
        for pixel, label in zip(drawn.reshape(-1, 4).tolist(), plane.ravel().tolist(), strict=True):
            name = names.get("#{:02x}{:02x}{:02x}".format(*pixel[:3]), "") if pixel[3] else ""
            assert name in ("", known[label - 1] if label <= classes else "")
            told += bool(name)
        assert told > 0.3 * plane.size


def test_small_classes_are_folded(page: str) -> None:
    for article in ARTICLE.findall(page):
        open_part = re.sub(r"<details>.*?</details>", "", article, flags=re.S)
        shares = [float(share) for share in re.findall(r"<small>(?:&lt; )?([\d.]+) %", open_part)]
        small = sum(share < 1 for share in shares)
        assert small < 3 and article.count('class="chosen"') == 1


def test_long_lists_of_silent_classes_are_folded(page: str, classes: int) -> None:
    shown, *rest = page.partition(" silent classes</h3>")[2].partition("</section>")[0].split("<details")
    absent = int(found[1]) if (found := re.search(r">(\d+) class(?:es)? in no image<", page)) else 0
    assert shown.count("<li>") == min(60, absent) * (absent > 1) and len(rest) == (absent > 60)
    assert sum(part.count("<li>") for part in rest) == max(0, absent - 60)
    assert classes < 1000 or absent > 60


def test_one_unit_is_one_unit(page: str) -> None:
    assert "1 unit: " in page and not re.search(r"(?<![\d,.])1 (units|images|classes|segments)\b", page)
