"""One import package: what `pyproject.toml` lists is what the tree holds, and every package says what it is for."""

import ast
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FOLDERS = {"scclip": "scclip", "pipeline": "scclip.pipeline", "jobs": "scclip.jobs"}


def package_folders() -> dict[str, Path]:
    """Import name → folder of every package in the three folders."""
    found = {}
    for top, name in FOLDERS.items():
        for init in (ROOT / top).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / top).parts
            found[".".join([name, *inside])] = init.parent
    return found


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(package_folders())


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for top in FOLDERS for path in (ROOT / top).rglob("*.py")}
    assert folders == set(package_folders().values())


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for name, folder in package_folders().items():
        module = ast.parse((folder / "__init__.py").read_text())
        assert ast.get_docstring(module), name
        assert name == "scclip" or len(module.body) == 1, name
