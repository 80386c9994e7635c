"""The label ids of the benchmarks' annotations: one table each from a stored value to the protocol's class index.

    truth = convert(LABEL_TABLES["ade20k"], annotation)          # the protocol's class indices, 255 = ignore

Every table names its source.
"""

import numpy as np

from scclip.categories import Labels, ignore_value, label_dtype

Table = Labels  # (65536,) class index of every annotation value, uint8 or uint16


def table(pairs: dict[int, int]) -> Table:
    """A lookup table of these annotation values and class indices; all other values are ignored."""
    dtype = label_dtype(max(pairs.values()))
    values = np.full(2**16, ignore_value(dtype), dtype)
    for value, index in pairs.items():
        values[value] = index
    return values


# COCO's category ids 1…90 without these eleven are its 80 things; 92…182 are COCO-Stuff's 91 kinds of stuff. The pixel
# maps of COCO-Stuff 164k hold id − 1 (https://github.com/nightrome/cocostuff, "Labels").
COCO_MISSING = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)

COCO_THINGS = [identity for identity in range(1, 91) if identity not in COCO_MISSING]

COCO_STUFF = [*COCO_THINGS, *range(92, 183)]

# Cityscapes label ids in the order of their train ids (cityscapesScripts, helpers/labels.py).
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

LABEL_TABLES: dict[str, Table] = {
    # VOC2012 SegmentationClass: palette indices 0…20, 255 is the border (VOC devkit, "void").
    "voc21": table({value: value for value in range(21)}),
    "voc20": table({value: value - 1 for value in range(1, 21)}),
    # mmsegmentation's conversion of PASCAL-Context: 0 background, 1…59 (tools/dataset_converters/pascal_context.py).
    "context60": table({value: value for value in range(60)}),
    "context59": table({value: value - 1 for value in range(1, 60)}),
    # COCO-Stuff 164k: the things in order as 1…80, whatever else is labeled or not as 0.
    "coco_object": table(dict.fromkeys(range(256), 0) | {i - 1: n for n, i in enumerate(COCO_THINGS, start=1)}),
    # mmsegmentation's clsID_to_trID (tools/dataset_converters/coco_stuff164k.py).
    "coco_stuff": table({identity - 1: index for index, identity in enumerate(COCO_STUFF)}),
    "cityscapes": table({identity: index for index, identity in enumerate(CITYSCAPES)}),
    # ADEChallengeData2016 annotations: 0 is unlabeled, 1…150 the classes (reduce_zero_label).
    "ade20k": table({value: value - 1 for value in range(1, 151)}),
}


def convert(labels: Table, annotation: Labels) -> Labels:
    """Turns annotation values (H, W) into class indices of the table's dtype, whose highest value is ignored."""
    return labels[annotation.astype(np.uint16)]
