"""`scclip VERB …` and `python -m scclip VERB …`: finds the verb's module, turns errors into one line and an exit code.

Exit codes: 0 done; 1 failed, or more images failed than --max-failed; 2 the user's input is wrong; 130 interrupted;
141 whatever read the output has ended (`scclip status labels/ | head -1`).
"""

import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from scclip.errors import JobFailed, UserError, one_line
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.streams import credentials_hidden, traceback_text
from scclip.jobs.cli.talk import is_verbose
from scclip.jobs.cli.variables import SUBMITTED, load

VERBS = {
    "label": "label image shards: COCO masks and Parquet statistics",
    "preview": "a few images labeled on one page, for the loop of writing a vocabulary",
    "status": "progress of a run, read from its files alone",
    "shard": "benchmark downloads to WebDataset shards with ground truth",
    "evaluate": "measure labels against ground truth in shards: mIoU, confusion, the worst images",
    "verify": "check a run: complete, digests, counts, ids, masks",
    "report": "a run as one page with pictures",
    "export": "a run's labels for trainers: coco, coco-panoptic, png, yolo, parquet",
    "compare": "two runs over the same images: what moved, class by class",
    "submit": "any verb as a job on a Ray cluster: submit, status, logs, stop, list",
    "bench": "measure a machine: model, io, pipeline, scale",
    "student": "a small network trained on the demo's labels alone, against its teacher",
    "demo": "drawn scenes, labeled and compared with their truth: the whole product in two minutes",
}

READ_WORDS = ("submit", "bench")  # these read their words themselves


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with credentials_hidden():  # flushed at its end: at Python's it would be too late to say nothing
            return start(words)
    except BrokenPipeError:
        if not (outputs := unread()):
            raise
        for output in outputs:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        return 128 + signal.SIGPIPE


def start(words: list[str]) -> int:
    """Finds the verb of a command line and runs it; returns the exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    if "--version" in words[: words.index("--") if "--" in words else None]:
        print(version_line())
        return 0
    verb = words.pop(0)
    if verb not in VERBS:
        return fail("scclip", f"unknown verb {verb!r}; {hint(verb, VERBS)}", 2)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of a C locale cannot show every name
    signal.signal(signal.SIGTERM, interrupt)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if SUBMITTED in os.environ:
        load()
    return run(verb, words)


def run(verb: str, words: Sequence[str]) -> int:
    """Parses the words with `jobs/options/VERB.py`, runs `jobs/VERB.py`, turns what they raise into an exit code."""
    try:
        if verb in READ_WORDS:
            return int(importlib.import_module(f"scclip.jobs.{verb}").main(words))
        options = importlib.import_module(f"scclip.jobs.options.{verb}").parser().parse(words)
        return int(getattr(importlib.import_module(f"scclip.jobs.{verb}"), verb)(*options))
    except KeyboardInterrupt as interrupted:
        return fail(f"scclip {verb}", str(interrupted) or "interrupted; run the same command again to go on", 130)
    except JobFailed as error:
        return fail(f"scclip {verb}", str(error), 1)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and unread():
            raise
        users = isinstance(error, UserError)
        traced = bool(os.environ.get("SCCLIP_TRACEBACK")) or (is_verbose() and not users)
        if traced:
            print(traceback_text(), file=sys.stderr)
        if users:
            return fail(f"scclip {verb}", str(error), 2)  # in full: the remedy comes last
        return fail(f"scclip {verb}", one_line(error) + ("" if traced else " (-v shows the traceback)"), 1)


def unread() -> list[int]:
    """Those of stdout and stderr that are pipes which nobody reads any more."""
    outputs = select.poll()
    outputs.register(1, 0)
    outputs.register(2, 0)
    return [output for output, event in outputs.poll(0) if event & select.POLLERR]


def interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM stops a job as Ctrl-C does; a second one does not wait for what still runs."""
    signal.signal(signal.SIGTERM, end_at_once)
    raise KeyboardInterrupt


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Ends this process with the line that the first signal would have led to."""
    os.write(2, b"scclip: stopped at once; run the same command again to go on from what is committed\n")
    os._exit(130)


def fail(who: str, message: str, code: int) -> int:
    """Prints one line without credentials to stderr; returns the code."""
    from scclip.pipeline.storage.retries import redact

    print(f"{who}: {redact(' '.join(message.split()))}", file=sys.stderr)
    return code


def version_line() -> str:
    """Returns the distribution's name and version, and Python's."""
    from importlib.metadata import version

    return f"scclip-pipeline {version('scclip-pipeline')}, Python {sys.version.split()[0]}"


def overview() -> str:
    """Returns the verbs, one line each."""
    lines = [f"  {verb:10} {text}" for verb, text in VERBS.items()]
    head = "Label image datasets with Self-Calibrated CLIP, on a laptop or a Ray cluster.\n\nusage: scclip VERB …\n"
    return "\n".join(
        [head, *lines, "", "scclip VERB --help tells the options of a verb, scclip --version the version."]
    )
