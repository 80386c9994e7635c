"""Pages that are made from the code are those that the code makes; paths that pages name exist."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "BENCHMARKS.md",
    *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]


def test_the_page_of_outputs_is_made_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("make_outputs", ROOT / "docs" / "make_outputs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert module.page() == written, "run: python docs/make_outputs.py"


def test_files_that_pages_name_exist() -> None:
    """Paths of this repository in backticks and links; not those with NAME or VERB in them, nor what is called new."""
    named, missing = 0, []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        paths = re.findall(r"`((?:scclip|pipeline|jobs|tests|docs)/[\w./-]*)`(?! \(new\))", text)
        links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if "://" not in link]
        places = [ROOT / path for path in paths if not re.search("[A-Z]{4}", path)]
        places += [(ROOT / page).parent / link for link in links]
        missing += [f"{page}: {place}" for place in places if not place.exists()]
        named += len(places)
    assert named > 30 and not missing
