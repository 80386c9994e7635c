"""Steps of the command's own process that take long are named on stderr."""

import time

import pytest

from scclip.jobs.cli.steps import LISTING, watched_step


def test_a_step_that_takes_long_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    said, until = "", time.monotonic() + 30
    with watched_step("label", LISTING) as step:
        step.reminder.pause = 0.5
        while not said and time.monotonic() < until:
            time.sleep(0.1)
            said = capsys.readouterr().err
    assert said.startswith("scclip label: waiting for ") and said.endswith(" s: the inputs are being listed\n")
    time.sleep(2.5)
    assert capsys.readouterr().err == ""
