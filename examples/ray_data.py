"""Labels as one stage of a Ray Data pipeline: files in, a Parquet data set with masks and captions out.

    python examples/ray_data.py photos/ labeled/ --vocabulary sky tree road car \
        --model ViT-B-16-quickgelu --pretrained openai

A file that is broken is a row with a status. On a cluster, start this on a node (`ray job submit`), with URLs.
"""

import argparse
from collections import Counter
from typing import Any

import ray

from scclip.ray import LabelerConfig, build_labeler


def caption(row: dict[str, Any]) -> dict[str, Any]:
    """Adds a sentence about the three largest classes; keeps the name, the mask and why there may be none."""
    segments = sorted(row["segments"] if row["status"] == "ok" else [], key=lambda segment: -segment["area"])
    names = [f"{segment['name']} {segment['area_fraction']:.0%}" for segment in segments[:3]]
    kept = {name: row[name] for name in ("path", "mask", "mean_confidence", "status", "error")}
    return {**kept, "caption": ", ".join(names)}


def main() -> None:
    """Reads, labels, writes; prints how many rows have which status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("output")
    parser.add_argument("--vocabulary", nargs="+", required=True, help="a built-in name, a file, or class names")
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--pretrained")
    options = parser.parse_args()

    words = options.vocabulary[0] if len(options.vocabulary) == 1 else options.vocabulary
    config = LabelerConfig(model=options.model, pretrained=options.pretrained, vocabulary=words)
    label = build_labeler(config, postprocess=caption)
    photos = ray.data.read_binary_files(options.photos, include_paths=True)
    label(photos).write_parquet(options.output)

    rows = ray.data.read_parquet(options.output, columns=["status"]).iter_rows()
    for status, count in Counter(row["status"] for row in rows).items():
        print(f"{count} {status}: {options.output}")


if __name__ == "__main__":
    main()
