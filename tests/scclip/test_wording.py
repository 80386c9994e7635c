"""One thing has no plural."""

import pytest

from scclip.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [(0, "unit", "0 units"), (1, "unit", "1 unit"), (2000, "class", "2,000 classes"), (1, "class", "1 class")],
)
def test_numbers_agree_with_their_nouns(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words
