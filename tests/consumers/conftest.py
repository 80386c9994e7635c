"""One run that all consumers read: 8 photographs, 5 classes, ignored pixels, one photograph turned by EXIF.

Tests of formats that hold numbers run with classes that count from 0 and from 1.
"""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from classed_runs import classed_run, label_maps

from scclip.jobs.cli.main import main

Maps = dict[str, np.ndarray]
Export = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are `make consumers`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.consumers)


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The packages keep their settings and databases in a folder of the tests."""
    home = str(tmp_path_factory.mktemp("settings"))
    os.environ |= {"YOLO_CONFIG_DIR": home, "MPLCONFIGDIR": home, "FIFTYONE_DATABASE_DIR": f"{home}/db"}
    os.environ |= {"FIFTYONE_CONFIG_PATH": f"{home}/fiftyone.json", "FIFTYONE_DO_NOT_TRACK": "true"}
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classed_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def labels(run: Path) -> Maps:
    """The run's own label maps by the last part of the key: 0 where a pixel is ignored."""
    maps = {key.rsplit("/", 1)[-1]: np.where(plane == 255, 0, plane) for key, plane in label_maps(run).items()}
    assert len(maps) == 8 and {value for plane in maps.values() for value in np.unique(plane)} == {*range(6)}
    return maps


@pytest.fixture(params=[0, 1], ids=["from 0", "from 1"])
def base(request: pytest.FixtureRequest) -> int:
    """The number of the first class."""
    return int(request.param)


@pytest.fixture
def meaning(base: int) -> Callable[[np.ndarray], np.ndarray]:
    """Turns stored numbers into the run's: 0 where a pixel is ignored."""
    return lambda plane: np.where(plane == 255, 0, plane + (1 - base))


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Export:
    """Exports the run with pictures, in a format and with more options."""

    def export(kind: str, *words: object) -> Path:
        output = tmp_path / kind
        assert main(["export", str(run), str(output), "--format", kind, "--images", *map(str, words)]) == 0
        return output

    return export


@pytest.fixture(scope="session")
def package() -> Callable[[str], ModuleType]:
    """Imports a package; skips the test with the reason where that is impossible."""

    def imported(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except Exception as error:  # of a package that is there and does not work with its neighbours
            pytest.skip(f"{name} cannot be imported: {error!r}")

    return imported


@pytest.fixture(scope="session")
def assert_equal(labels: Maps) -> Callable[[Maps], None]:
    """Checks label maps by name against the run's: no pixel is wrong."""

    def check(found: Maps) -> None:
        assert found.keys() == labels.keys()
        wrong = {name: int((plane != labels[name]).sum()) for name, plane in found.items()}
        assert not any(wrong.values()), wrong

    return check
