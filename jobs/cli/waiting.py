"""Tells the user what a job waits for, on stderr and by a note in OUTPUT that `scclip status` shows.

with watched(job, ledger) as silence:
    for outcome in outcomes:
        silence.progress()
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import ray

from scclip.jobs.cli.errors import warn
from scclip.jobs.cli.main import fail
from scclip.pipeline.cluster.nodes import workers_killed_for_memory
from scclip.pipeline.cluster.silence import Silence
from scclip.pipeline.cluster.waiting import if_it_lives, in_use, what_is_missing
from scclip.pipeline.labeling.job import LabelJob
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.waiting import remove_note, write_note

STATE_SECONDS = 10.0  # in which the ledger answers


class Teller(contextlib.AbstractContextManager["Teller"]):
    """Says lines about waiting; the note is gone after `forget` and at the end of the block, a killed job's too."""

    def __init__(self, verb: str, files: RunFiles) -> None:
        self.verb, self.files, self.noted = verb, files, True

    def __call__(self, line: str) -> None:
        """Says a line; storage that takes no note is no reason to end."""
        warn([line], self.verb)
        self.noted = True
        with contextlib.suppress(OSError):
            write_note(self.files, line)

    def forget(self) -> None:
        """The job goes on."""
        if self.noted:
            self.noted = False
            with contextlib.suppress(OSError):
                remove_note(self.files)

    def __exit__(self, *error: object) -> None:
        self.forget()


def watched_tasks(verb: str) -> Silence:
    """Watches over tasks without actors."""
    return Silence(if_it_lives(in_use), lambda line: warn([line], verb))


@contextlib.contextmanager
def watched(job: LabelJob, ledger: Any, verb: str) -> Iterator[Silence]:
    """Watches over the labeling graph."""
    killed_before = workers_killed_for_memory()

    def missing() -> str:
        try:
            state = ray.get(ledger.now.remote(), timeout=STATE_SECONDS)
        except ray.exceptions.RayError:  # its process is killed again and again, or its node is too busy
            state = None
        return what_is_missing(state, job.resources, workers_killed_for_memory() - killed_before)

    with Teller(verb, job.files) as teller, Silence(if_it_lives(missing), teller) as silence:
        silence.resumed = teller.forget
        yield silence


def end_now(verb: str, what: str) -> None:
    """Ends the process with one line: its main thread waits for a cluster that is gone, and nothing can wake it."""
    fail(f"scclip {verb}", f"{what}; what is committed is kept, the same command again goes on", 1)
    os._exit(1)
