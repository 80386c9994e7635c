"""docs/vocabularies.md: its examples work and mean the same in every form, its messages are those of the code."""

import re
from pathlib import Path

import pytest

from scclip import Vocabulary, VocabularyClass
from scclip.errors import UserError

PAGE = (Path(__file__).parents[1] / "docs" / "vocabularies.md").read_text(encoding="utf-8")
SOURCES = "".join(path.read_text() for path in (Path(__file__).parents[1] / "scclip" / "vocabulary").glob("*.py"))


def block(kind: str) -> str:
    (text,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)
    return text


@pytest.mark.filterwarnings("ignore:the demo model knows")
def test_the_examples_are_one_vocabulary() -> None:
    names: dict[str, Vocabulary] = {}
    exec(block("python"), names)
    from_yaml = Vocabulary.parse(block("yaml").encode(), "words.yaml")
    words = names["words"]
    assert (words.classes, words.background, words.threshold) == (
        from_yaml.classes, from_yaml.background, from_yaml.threshold,
    )  # fmt: skip
    from_text = Vocabulary.parse(block("text").encode(), "words.txt")
    assert [entry.synonyms for entry in from_text.classes] == [("house",), ("plant", "tree", "flower")]


WRONG = {
    'class "car" is there already': lambda: Vocabulary(["CAR", "car"]),
    'synonym "bus" already belongs to class "car"': lambda: Vocabulary({"car": ["bus"], "truck": ["bus"]}),
    'class "background" and the key background clash': lambda: Vocabulary(["background"], background=["sky"]),
    'prompt "…" has 90 tokens': lambda: Vocabulary(["very " * 90 + "long"]),
    'template "…" must hold {} once': lambda: Vocabulary(["car"], templates=["a photo"]),
    "class 'car, sedan' holds a comma": lambda: Vocabulary(["car, sedan"]),
    "holds the unprintable character U+200B": lambda: Vocabulary(["car\u200b"]),
}
WARNED = {
    'synonym "wall" already belongs to the background; …, or the background wins the tie': lambda: Vocabulary(
        ["wall"], background=["wall"]
    ),
    '"background" is a class like any other': lambda: Vocabulary(["background", "car"]),
    "300 classes: scores are a softmax over all queries": lambda: Vocabulary([f"class {n}" for n in range(300)]),
}


def pattern(message: str) -> str:
    """The page's message as the code says it, with any text and number where it is cut."""
    return re.escape(message).replace("…", ".*").replace("90", r"\d+")


@pytest.mark.parametrize("message", WRONG)
def test_what_the_page_says_is_refused(message: str) -> None:
    assert f"| `{message}` |" in PAGE
    with pytest.raises(UserError, match=pattern(message)):
        WRONG[message]()


@pytest.mark.parametrize("message", WARNED)
def test_what_the_page_says_is_warned_of(message: str) -> None:
    assert f"| `{message}` |" in PAGE
    assert any(re.search(pattern(message), line) for line in WARNED[message]().warnings)


def test_every_way_to_give_classes_is_the_same() -> None:
    one = Vocabulary(["car", "road"])
    assert one == Vocabulary({"car": [], "road": "road"}) == Vocabulary([VocabularyClass(name="car"), "road"])
    assert one.name == "own" and one.query_category == (1, 2)
    assert one == Vocabulary.parse(b"car\nroad\n", "own.txt")
    with pytest.raises(UserError, match=r"Vocabulary\.load\('voc21'\)"):
        Vocabulary("voc21")
