"""Keeps the plan of a run: its units, in generations, because the input may grow from one call to the next.

units = write_generation(files, known, new, replan)   # all units, the new ones as the next generation
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from scclip.pipeline.inputs.units import Unit, plan_from_table, plan_to_table, renamed
from scclip.pipeline.run.files import RunFiles, read_table
from scclip.pipeline.run.origin import remember_plan
from scclip.pipeline.storage.files import create, join, list_files
from scclip.pipeline.storage.secrets import public_url, signed_url


def read_plan(files: RunFiles) -> list[Unit]:
    """Reads the units of all generations, in order."""
    urls = (file.url for file in list_files(join(files.output, "plan")) if file.url.endswith(".parquet"))
    return [unit for url in urls for unit in plan_from_table(read_table(url))]


def write_generation(
    files: RunFiles, known: Sequence[Unit], new: Sequence[Unit], replan: Callable[[Sequence[Unit]], list[Unit]]
) -> list[Unit]:
    """Writes the `new` units as the next generation of the plan; returns all units, with signatures as given now.

    The plan itself holds no credentials.

    Where another driver wrote that generation first, its units are known now, and `replan` finds what is still new.
    """
    while new:
        generation = 1 + len(list_files(join(files.output, "plan")))
        sink = pa.BufferOutputStream()
        pq.write_table(plan_to_table([renamed(unit, public_url) for unit in new]), sink)
        data = sink.getvalue().to_pybytes()
        if create(join(files.output, "plan", f"gen-{generation:04d}.parquet"), data):
            remember_plan(data)
            return [renamed(unit, signed_url) for unit in [*known, *new]]
        known = read_plan(files)
        new = replan(known)
    return [renamed(unit, signed_url) for unit in known]
