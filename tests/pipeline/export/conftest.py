"""A folder for the many small files of an export."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_runs import scratch_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder in memory, where there is one."""
    with scratch_folder() as folder:
        yield folder
