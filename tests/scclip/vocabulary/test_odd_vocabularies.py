"""Class names as people write them: with commas, quotes, a leading #, joiners and spaces that do not break."""

import csv
import io
import re

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from scclip.vocabulary.files import read_text, write_text
from scclip.vocabulary.lint import VocabularyError
from scclip.vocabulary.vocabulary import Vocabulary

TEMPLATES = 'templates: ["a {}."]\n'


def parsed(text: str, source: str = "street.txt") -> Vocabulary:
    """The vocabulary of a file with this text."""
    return Vocabulary.parse(text.encode(), source)


def code(character: str) -> str:
    """U+0041 for A: how a test is called."""
    return f"U+{ord(character):04X}"


def names(text: str) -> list[str]:
    return [entry.name for entry in parsed(text).classes]


def synonyms(text: str) -> list[tuple[str, ...]]:
    return [entry.synonyms for entry in parsed(text).classes]


def yaml_names(*words: str) -> list[str]:
    text = TEMPLATES + "classes:\n" + "".join(f'  - "{word}"\n' for word in words)
    return [entry.name for entry in parsed(text, "street.yaml").classes]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('"traffic light, red"', ("traffic light, red",)),
        ('"traffic light, red", stop', ("traffic light, red", "stop")),
        ('car, "truck, small" , van', ("car", "truck, small", "van")),
        ('"the ""big"" one, here"', ('the "big" one, here',)),
        ('"plain"', ("plain",)),
        ('"a # b, c", d # a comment', ("a # b, c", "d")),
    ],
    ids=["alone", "first", "second", "quotes", "plain", "comment"],
)
def test_a_quoted_name_keeps_its_comma(line: str, wanted: tuple[str, ...]) -> None:
    assert synonyms(f"road\n{line}\n") == [("road",), wanted]
    assert names(f"road\n{line}\n")[1] == wanted[0]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('12" pipe', ('12" pipe',)),
        ("rail 5'6\", track", ("rail 5'6\"", "track")),
        ("o'clock, d'or", ("o'clock", "d'or")),
    ],
    ids=["inches", "feet", "apostrophes"],
)
def test_quotes_inside_a_name_are_letters(line: str, wanted: tuple[str, ...]) -> None:
    assert synonyms(f"{line}\n") == [wanted]


@pytest.mark.parametrize("line", ['"traffic light, red', 'road, "open', '"a" b, c'], ids=["first", "second", "behind"])
def test_a_quote_that_does_not_close_is_named_with_its_line(line: str) -> None:
    with pytest.raises(VocabularyError, match="line 2") as caught:
        parsed(f"road\n{line}\n")
    assert "quote" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('"#1 seed"\n', ["#1 seed"]),
        ('# a comment\n"#hashtag", sign\nroad # another\n', ["#hashtag", "road"]),
        ('"# of doors"\nc#\nf#, note\n', ["# of doors", "c#", "f#"]),
    ],
    ids=["alone", "comments", "ends"],
)
def test_a_class_that_begins_with_a_hash_can_be_written(text: str, wanted: list[str]) -> None:
    assert names(text) == wanted
    assert yaml_names(*wanted) == wanted


@pytest.mark.parametrize(
    "word",
    [
        "\u0645\u06cc\u200c\u0631\u0648\u062f",  # Persian, with a zero-width non-joiner
        "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627",
        "\u0915\u094d\u200d\u0937",  # Devanagari, with a zero-width joiner
        "\U0001f469\u200d\U0001f33e",  # woman farmer: two emoji, joined
    ],
    ids=["Persian", "Persian plural", "Devanagari", "emoji"],
)
def test_joiners_are_letters_of_a_word(word: str) -> None:
    assert names(f"road\n{word}, car\n") == ["road", word]
    assert yaml_names("road", word) == ["road", word]


@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u3000", "\u2009"], ids=code)
def test_a_space_that_does_not_break_is_a_space(space: str) -> None:
    """Copied from web pages and documents; CLIP's tokenizer takes any white space for one."""
    for found in (names(f"traffic{space}light\nroad\n"), yaml_names(f"traffic{space}light", "road")):
        assert [" ".join(name.split()) for name in found] == ["traffic light", "road"]
    assert names(f"{space}road{space}\n") == ["road"]
    with pytest.raises(VocabularyError, match="already"):
        parsed(f"traffic light\ntraffic{space}light\n")


@pytest.mark.parametrize("character", ["\u200b", "\u0007", "\u202e", "\u2060", "\u200c"], ids=code)
def test_what_nobody_sees_is_still_refused(character: str) -> None:
    """A zero-width space, a bell, a change of direction, a word joiner; a joiner that joins nothing."""
    with pytest.raises(VocabularyError, match=re.escape(code(character))):
        yaml = TEMPLATES + f'classes: ["road", "{character}a"]\n' if character != "\u0007" else ""
        parsed(yaml, "street.yaml") if yaml else parsed(f"road\na{character}\n")


LETTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "S", "M", "Zs"])
WORDS = st.text(st.one_of(LETTERS, st.sampled_from(',"# ')), min_size=1, max_size=12).map(lambda text: text.strip())
WORDS = WORDS.filter(lambda word: any(letter.isalnum() for letter in word))


@settings(derandomize=True, max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=4))
@example([["traffic light, red", "stop"], ["#1 seed"]])
def test_what_a_csv_writer_quotes_reads_back(rows: list[list[str]]) -> None:
    """Any words, quoted as spreadsheets do, are the words; repeated ones are refused by name."""
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    keys = [" ".join(word.lower().split()) for row in rows for word in row]
    if len(set(keys)) < len(keys):
        return
    assert [[" ".join(word.split()) for word in found] for found in synonyms(buffer.getvalue())] == [
        [" ".join(word.split()) for word in row] for row in rows
    ]


@settings(derandomize=True, max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.one_of(st.text(max_size=9), st.text(',"# \n\r\t\u00a0\u2028ab', max_size=9)), max_size=5))
@example(["", "a\nb", '"', '"a" b', "# a", "a #b", "a,b", "c#", '12" pipe', "\x1f", "\ud800"])
def test_no_name_moves_the_classes_after_it(names: list[str]) -> None:
    """Whatever the names are, the file has a class for each; only white space changes."""
    classes = read_text(write_text(names), "a.txt")["classes"]
    spaced = ["".join(" " if letter.isspace() else letter for letter in name).strip() for name in names]
    assert [entry.synonyms for entry in classes] == [(name,) for name in spaced]
