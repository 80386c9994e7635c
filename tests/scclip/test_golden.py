"""Every golden array and case through the public API, at the tolerances of tests/golden/README.md."""

import pytest
from golden import META, check_case, check_features


@pytest.mark.parametrize("name", sorted(META["arch"]))
def test_features(name: str) -> None:
    check_features(name)


@pytest.mark.parametrize("name", sorted(META["cases"]))
def test_case(name: str) -> None:
    check_case(name)
