"""Ultralytics' segmentation labels of an export: `class x1 y1 x2 y2 …` a line, coordinates over width and height.

    text = yolo_lines(image, target, rules)
    yaml = data_yaml(target, val=True)

A line is one polygon: each 4-connected component is a line, of stuff too, because a line holds one ring. Classes
count from 0, so class = category − 1. Holes are kept by a seam (pipeline/polygons.py).
"""

import yaml

from scclip.pipeline.export.formats.coco import placed_outline
from scclip.pipeline.export.source import Exported
from scclip.pipeline.export.transform import Rules, Target, instances


def yolo_lines(image: Exported, target: Target, rules: Rules) -> tuple[str, int]:
    """The text of an image's label file (empty for an image without segments) and its lines."""
    height, width = image.shape
    lines = []
    for instance in instances(image.labels(target, rules), target, components=False):
        for part in instance.parts():
            if part.area >= rules.min_area:
                ring = placed_outline(part) / (width, height)
                places = " ".join(f"{value:.6g}" for value in ring.ravel().tolist())
                lines.append(f"{instance.category - 1} {places}\n")
    return "".join(lines), len(lines)


def data_yaml(target: Target, val: bool) -> bytes:
    """data.yaml beside the folders images/ and labels/."""
    names = {category - 1: name for category, name in sorted(target.categories.items()) if category}
    content = {"path": ".", "train": "images/train", "val": "images/val" if val else "images/train", "names": names}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
