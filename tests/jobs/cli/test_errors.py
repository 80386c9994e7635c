"""What is left of an error that came through Ray: what a worker raised, without Ray's advice to programmers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray.data

from scclip.jobs.cli.errors import cause


def fails(batch: Any) -> Any:
    raise ValueError("unit 3: s3://bucket/in/2.tar is gone\nsince yesterday")


def fails_later(batch: Any) -> Iterator[Any]:
    yield batch
    fails(batch)


def fails_for_a_cause(batch: Any) -> Any:
    try:
        return fails(batch)
    except ValueError as error:
        raise RuntimeError("a stage failed") from error


@pytest.mark.parametrize("stage", [fails, fails_later, fails_for_a_cause])
def test_the_first_cause_is_told_in_one_line(stage: Callable[[Any], Any], local_ray: None) -> None:
    with pytest.raises(Exception, match="since yesterday") as caught:
        ray.data.range(1).map_batches(stage).materialize()
    assert cause(caught.value) == "ValueError: unit 3: s3://bucket/in/2.tar is gone since yesterday"
