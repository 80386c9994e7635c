"""What is left of an error that came through Ray: what a worker raised, without Ray's advice to programmers."""

import pytest
import ray.data

from scclip.jobs.cli.errors import cause


def fails(batch: object) -> object:
    raise ValueError("unit 3: s3://bucket/in/2.tar is gone\nsince yesterday")


@pytest.mark.parametrize("chained", [False, True])
def test_the_first_cause_is_told_in_one_line(chained: bool, local_ray: None) -> None:
    def fails_with_a_cause(batch: object) -> object:
        try:
            return fails(batch)
        except ValueError as error:
            raise RuntimeError("a stage failed") from error

    with pytest.raises(Exception) as caught:
        ray.data.range(1).map_batches(fails_with_a_cause if chained else fails).materialize()
    told = cause(caught.value)
    assert "since yesterday" in told and "\n" not in told, told
    assert chained or told == "ValueError: unit 3: s3://bucket/in/2.tar is gone since yesterday"
    assert not any(word in told for word in ("attempts", "backoff", "transient")), told
