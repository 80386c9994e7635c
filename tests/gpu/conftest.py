"""The product on a real GPU (`make gpu`)."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def all_cores() -> Iterator[None]:
    """Lets the reference on the CPU use all cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["demo", "ViT-S-16"])
def name(request: pytest.FixtureRequest) -> str:
    """The demo model, and one with drawn weights that is as deep as real ones."""
    return str(request.param)
