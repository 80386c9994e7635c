"""`scclip bench model|fidelity|gpu|io|pipeline|scale`: measures how fast this machine labels, and what limits it.

    scclip bench model --model ViT-B-16 --random
    scclip bench pipeline --model demo

Every measurement prints a short table, then one line of JSON with hardware, versions, options and figures.
`bench model` and `bench fidelity` need only PyTorch and open_clip, so they run where Ray is not installed.
The folder of the benchmarks is `jobs/benchmarking`: a folder `bench` beside this file would hide it.
"""

import importlib
from collections.abc import Sequence

from scclip.errors import UserError
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.talk import set_loudness

BENCHES = {
    "model": "speed of one model: patch features against open_clip, label maps against a naive implementation",
    "fidelity": "how far features, logits and labels are from the arrays of a reference implementation",
    "gpu": "what a GPU can do at most, and what each step of labeling makes of it",
    "io": "speed of run-length encoding against pycocotools; of reading, decoding and writing, each by itself",
    "pipeline": "speed of the Ray job against a plain loop that does the same work",
    "scale": "cost of Ray and the driver for 10,000 to 1,000,000 images, with constant labels instead of a model",
}


def main(argv: Sequence[str]) -> int:
    """Runs one benchmark; returns the exit code."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: scclip bench WHAT [options]\n")
        print("\n".join(f"  {name:10} {text}" for name, text in BENCHES.items()))
        print("\nscclip bench WHAT --help shows the options.")
        return 0 if words else 2
    what = words.pop(0)
    if what not in BENCHES:
        raise UserError(f"unknown benchmark {what!r}; {hint(what, BENCHES)}")
    set_loudness(verbose=not {"-v", "--verbose"}.isdisjoint(words))  # the benchmark's module imports Ray
    return int(importlib.import_module(f"scclip.jobs.benchmarking.{what}").main(words))
