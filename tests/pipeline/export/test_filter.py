"""Filters against Python's own evaluation of the same text; what is no comparison is refused; the split's share."""

import pyarrow as pa
import pytest

from scclip.pipeline.annotations.schemas import IMAGES_SCHEMA
from scclip.pipeline.export.filter import FilterError, parse_filter, split_of

ROWS = [
    {"coverage": coverage / 4, "mean_confidence": confidence / 5, "width": 100 * width, "key": f"k{coverage}"}
    for coverage in range(5)
    for confidence in range(6)
    for width in (1, 3)
]


@pytest.mark.parametrize(
    "text",
    [
        "coverage > 0.5 and mean_confidence > 0.4",
        "coverage <= 0.25 or not (width == 100)",
        "0.2 < coverage < 0.8",
        "coverage * 2 - mean_confidence >= 0.5",
        "key in ['k1', 'k3'] and width != 100",
        "key not in ('k1', 'k3')",
        "width / 100 > 1 + 1 or coverage == 1",
        "mean_confidence > -0.5",
    ],
)
def test_a_filter_means_what_python_means(text: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    wanted = [row for row in ROWS if eval(text, {}, dict(row))]
    assert table.filter(parse_filter(text, IMAGES_SCHEMA.names)).to_pylist() == wanted
    assert 0 < len(wanted) < len(ROWS) or text == "mean_confidence > -0.5"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "coverage.__class__ == 1",
        "(lambda: 1)() > 0",
        "[c for c in (1,)] == 1",
        "coverage > 0.5 if True else False",
        "coverage",
        "0.5",
        "coverage >",
        "coverge > 0.5",
        "coverage > f'{width}'",
        "coverage ** 99999 > 1",
        "key in key",
        "key in [width]",
        "coverage is 1",
        "(" * 300 + "coverage" + ")" * 300 + " > 1",
        "coverage > 1" + " and coverage > 1" * 400,
        "\0",
        "",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text, IMAGES_SCHEMA.names)
    assert "filter" in str(caught.value) and "\n" not in str(caught.value)


def test_the_split_has_its_share_and_is_nested() -> None:
    keys = [f"{number:012d}" for number in range(20_000)]
    tenth = {key for key in keys if split_of(key, 0.1) == "val"}
    assert abs(len(tenth) / len(keys) - 0.1) < 0.01
    assert tenth < {key for key in keys if split_of(key, 0.2) == "val"}
    assert all(split_of(key, 0.0) == "train" for key in keys[:100])
