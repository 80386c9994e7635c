"""Values on pages: percentages, confidences, names; every template escapes what it prints."""

import base64
import hashlib
import re
from html import unescape

import pytest

from scclip.jobs.pages.render import ENVIRONMENT, confidence, printable, share, shortened
from scclip.jobs.pages.scores import title_of


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (1, 3, "33.3 %"),
        (1, 10_000, "< 0.1 %"),
        (9_999, 10_000, "99.9 %"),
        (0, 0, "–"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: int, whole: int, shown: str) -> None:
    assert share(part, whole) == shown


def test_texts_for_people() -> None:
    assert [confidence(value) for value in (0.0123, 0.123)] == ["0.012", "0.12"]
    assert shortened("a" * 18) == "a" * 18 and shortened("a" * 19) == "a" * 17 + "…"
    assert printable("a\x07b\nc\ud800") == "a b\nc " and printable(3) == 3
    assert title_of("scclip-fusion+post") == "SC-CLIP − fusion + post" and title_of("other") == "other"


@pytest.mark.parametrize("name", ENVIRONMENT.list_templates())
def test_no_template_switches_escaping_off(name: str) -> None:
    source, _, _ = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)  # type: ignore[union-attr]
    assert not re.search(r"\|\s*safe\b|autoescape", source)
    assert ENVIRONMENT.autoescape is True and "http" not in re.sub("http-equiv", "", source)


def test_a_page_runs_its_own_script_and_style_alone() -> None:
    page = ENVIRONMENT.get_template("base.html.j2").render(title="t", class_names={})
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and page.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", ENVIRONMENT.list_templates())
def test_nothing_in_a_template_needs_more_than_its_policy(name: str) -> None:
    source, _, _ = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)  # type: ignore[union-attr]
    assert not re.search(r"\s(?:style|on\w+)=|javascript:", source)
