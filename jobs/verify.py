"""`scclip verify OUTPUT`: checks that a run is complete and undamaged. Reads every file of it, writes none.

scclip verify s3://bucket/labels
"""

from collections.abc import Sequence

import numpy as np

from scclip.errors import JobFailed
from scclip.jobs.cli.talk import json_line, say, tell
from scclip.jobs.options.verify import VerifyOptions
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.run.totals import Totals
from scclip.pipeline.run.verify import Leftovers, leftovers, verify_units
from scclip.pipeline.storage.files import from_root
from scclip.wording import counted

SHOWN = 20  # problems printed; the last line counts all


def verify(options: VerifyOptions) -> int:
    """Checks all finished units, the plan's completeness and what was left behind.

    Returns:
        0; prints what was found.

    Raises:
        JobFailed: something is wrong or missing.
        UserError: OUTPUT holds no run.
    """
    files = RunFiles(from_root(options.output))
    run, units = existing_run(files, "OUTPUT", labels=True)
    finished = files.finished()
    problems, sums, ids = list[str](), Totals(), list[np.ndarray]()
    for report in verify_units(files, [unit for unit in units if unit.number in finished], run):
        problems += [f"unit {report.unit}: {problem}" for problem in report.problems]
        sums += report.totals
        ids += [report.ids] if run.options.image_ids == "key" else []  # others follow from unit and index
    problems += repeated(ids)
    left = leftovers(files, units)
    problems += [f"{name}: the plan has no such unit; move it away" for name in left.unexpected]
    if options.json:
        print(as_json(files, units, finished, problems, sums, left))
    else:
        tell(*described(left), *problems[:SHOWN])
    conclude(units, finished, problems, files)
    if not options.json:
        read = f"{counted(sums.read, 'image')} read = {sums.labeled:,} labeled + {sums.failed:,} failed"
        say(f"{counted(len(units), 'unit')}, {read},")
        say(
            f"{counted(sums.segments, 'segment')}: complete, every digest, count, id and RLE is right in {files.output}"
        )
    return 0


def as_json(
    files: RunFiles, units: Sequence[Unit], finished: set[int], problems: Sequence[str], sums: Totals, left: Leftovers
) -> str:
    """What was found, as one JSON object with every problem."""
    document = {
        "output": files.output,
        "sound": not problems,
        "complete": bool(units) and finished >= {unit.number for unit in units},
        "problems": list(problems),
        "leftovers": described(left),
        "units": len(units),
        "units_finished": len(finished & {unit.number for unit in units}),
        "images_read": sums.read,
        "images_labeled": sums.labeled,
        "images_failed": sums.failed,
        "segments": sums.segments,
    }
    return json_line(document)


def repeated(ids: Sequence[np.ndarray]) -> list[str]:
    """Names image ids that occur in more than one unit, which --image-ids key allows; takes eight bytes an image."""
    values, counts = np.unique(np.concatenate([np.empty(0, np.int64), *ids]), return_counts=True)
    twice = values[counts > 1]
    names = ", ".join(map(str, twice[:3].tolist()))
    return (
        [f"{counted(len(twice), 'image id')} in several units, such as {names}; use --image-ids plan"] if names else []
    )


def described(left: Leftovers) -> list[str]:
    """Describes what a crash left behind, and what a rerun does with it."""
    begun, stale = sum(left.begun.values()), sum(left.stale.values())
    told = [
        (begun, "committed chunk", f"of {counted(len(left.begun), 'unfinished unit')}: a rerun goes on from there"),
        (stale, "leftover part", "of finished units: a rerun removes them"),
        (len(left.uncommitted), "file", "of units that are not committed yet: a rerun completes the units"),
        (len(left.temporaries), "temporary file", "of killed writers: not read, removed by a rerun after an hour"),
    ]
    return [f"{counted(count, noun)} {rest}" for count, noun, rest in told if count]


def conclude(units: Sequence[Unit], finished: set[int], problems: Sequence[str], files: RunFiles) -> None:
    """Raises JobFailed where something is wrong or missing."""
    missing = len(units) - len(finished & {unit.number for unit in units})
    if problems:
        raise JobFailed(f"{counted(len(problems), 'problem')} in {files.output}; the first: {problems[0]}")
    if missing or not units:
        what = f"{missing:,} of {counted(len(units), 'unit')} not finished" if units else "nothing is planned yet"
        raise JobFailed(f"{files.output} is sound but not complete: {what}; run the same scclip label again")
