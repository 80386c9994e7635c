"""`scclip bench model|io|pipeline|scale`: what a machine does, and what it could do.

    scclip bench model --model ViT-B-16 --random
    scclip bench pipeline --model demo

Every measurement prints a short table, then one line of JSON: hardware, versions, options, figures, ratio.
`bench model` needs PyTorch and open_clip alone: it runs where Ray is not installed.
"""

import difflib
import importlib
from collections.abc import Sequence

from scclip.errors import UserError

BENCHES = {
    "model": "dense encode against open_clip's encode_image; image to label map against a naive implementation",
    "io": "run lengths against pycocotools; reading, decoding, encoding and writing, each by itself",
    "pipeline": "the Ray job in its steady state against a bare loop that does the same work",
    "scale": "10,000 to 1,000,000 images with a stand-in for the model: what the driver and Ray cost",
}


def main(argv: Sequence[str]) -> int:
    """Runs one benchmark; returns the exit code."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: scclip bench WHAT [options]\n")
        print("\n".join(f"  {name:10} {text}" for name, text in BENCHES.items()))
        print("\nscclip bench WHAT --help tells the options.")
        return 0 if words else 2
    what = words.pop(0)
    if what not in BENCHES:
        near = difflib.get_close_matches(what, BENCHES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose {', '.join(BENCHES)}"
        raise UserError(f"unknown benchmark {what!r}; {hint}")
    return int(importlib.import_module(f"scclip.jobs.benchmarking.{what}").main(words))
