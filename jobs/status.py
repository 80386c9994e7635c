"""`scclip status OUTPUT`: progress of a run from its files alone, without Ray and without the job.

scclip status s3://bucket/labels
"""

from scclip.errors import UserError
from scclip.jobs.cli.talk import json_line, tell
from scclip.jobs.options.status import StatusOptions
from scclip.pipeline.annotations.schemas import Status
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.fingerprint import existing_run
from scclip.pipeline.run.totals import Totals, unit_totals
from scclip.pipeline.run.waiting import read_note


def status(options: StatusOptions) -> int:
    """Prints what is planned, finished and in progress; returns 0. UserError where OUTPUT holds no run."""
    files = RunFiles(options.output.rstrip("/"))
    waits = read_note(files)
    try:
        run, units = existing_run(files, "OUTPUT")
    except UserError:
        if not waits:
            raise
        document = {"output": files.output, "finished": False, "units": 0, "waiting": waits}  # the run has not begun
        tell(json_line(document) if options.json else f"run       {files.output}: not begun\nwaiting   {waits}")
        return 0
    finished, parts = files.finished(), files.parts()
    totals = sum(unit_totals(files, finished).values(), Totals())
    planned, done = sum(unit.size for unit in units), sum(unit.size for unit in units if unit.number in finished)
    failures = {status: count for status, count in sorted(totals.statuses.items()) if status != Status.OK}
    begun = {unit: chunks for unit, chunks in parts.items() if unit not in finished}
    if options.json:
        document = {
            "output": files.output,
            "finished": len(finished) == len(units),
            "bytes_share": done / planned if planned else float(len(finished) == len(units)),
            "units": len(units),
            "units_finished": len(finished),
            "units_begun": len(begun),
            "chunks_begun": sum(map(len, begun.values())),
            "images_read": totals.read,
            "images_labeled": totals.labeled,
            "images_failed": totals.failed,
            "segments": totals.segments,
            "failures": failures,
            "waiting": waits,
            "model": run.model.model,
            "method": run.model.method,
            "precision": run.model.precision,
            "vocabulary": run.vocabulary.name,
            "classes": len(run.vocabulary.classes),
        }
        print(json_line(document))
        return 0
    state = "finished" if len(finished) == len(units) else f"{done / max(1, planned):.0%} of the input's bytes"
    lines = [
        f"run       {files.output}: {state}",
        f"units     {len(finished):,} of {len(units):,} finished, {len(begun):,} begun",
        f"images    {totals.read:,} read, {totals.labeled:,} labeled, {totals.failed:,} failed (in finished units)",
        f"chunks    {sum(map(len, begun.values())):,} committed in units that are begun",
        f"model     {run.model.method} with {run.model.model}, {run.model.precision}",
        f"classes   {run.vocabulary.name}: {len(run.vocabulary.classes)}",
    ]
    failed = ", ".join(f"{count:,} {status}" for status, count in failures.items())
    lines += [f"waiting   {waits}"] if waits else []
    tell(*lines, *([f"failed    {failed}"] if failed else []))
    return 0
