"""Variables of `--pass-env`: their way to a job's processes, past the description of the job that everybody may read.

    described, files = divided(forwarded(["AWS_SECRET_ACCESS_KEY", "OMP_NUM_THREADS"]))
    load()   # in the driver and in each worker, where a job's working directory holds `FILE`

Ray shows a job's `env_vars` on its dashboard and writes them into its logs. So only variables that a process reads
while it starts are set there; all others are in a file of the working directory, which processes read themselves.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scclip.errors import UserError
from scclip.pipeline.storage.secrets import is_secret

FILE = "scclip-variables.json"  # in a job's working directory; no user's own file has this name
HOOK = f"{__name__}.load"  # what Ray calls in each worker
AT_START = re.compile(r"OMP_|MKL_|KMP_|OPENBLAS_|LD_|MALLOC_|PYTHON|RAY_|CUDA_|NCCL_")
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set for the driver of a submitted job: its configuration


def forwarded(names: Sequence[str]) -> dict[str, str]:
    """Returns name → value of the variables to pass on; UserError for one that is not set."""
    for name in names:
        if name not in os.environ:
            raise UserError(f"--pass-env {name}: not set in this shell; export it first")
    return {name: os.environ[name] for name in names}


def divided(variables: Mapping[str, str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Returns the variables that processes need from their start, and the file, if any, that carries the others."""
    described = {name: text for name, text in variables.items() if AT_START.match(name) and not is_secret(name)}
    carried = {name: text for name, text in variables.items() if name not in described}
    return described, {FILE: json.dumps(carried).encode()} if carried else {}


def load() -> None:
    """Sets the variables that were carried to this process's working directory; there may be none."""
    if (file := Path(FILE)).is_file():
        os.environ.update(json.loads(file.read_bytes()))
