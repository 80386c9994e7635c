"""Masks as polygons along the pixels' edges: exact, a hole joined to its outer ring by a seam of zero width.

    ring = outline(mask)      # float64 (V, 2) of x, y: one 4-connected component, holes included

A ring runs along the lattice between the pixels, so that a pixel (row, column) is the square [column, column + 1] ×
[row, row + 1]. COCO and YOLO polygons know no holes: each hole is reached by a horizontal seam that is walked there
and back ("keyhole"). An even-odd rasteriser of pixel squares, such as pycocotools', gives the mask back to the pixel;
cv2.fillPoly, which Ultralytics uses, takes vertices as pixel centres and draws the border and the seams too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Ring = npt.NDArray[np.int64]  # (V, 2) of y, x on the lattice, the last vertex joined to the first


def outline(mask: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """One closed polygon (V, 2) of x, y around a 4-connected component, mask (H, W) bool, V at least 4.

    Raises ValueError for a mask without a pixel or of several components.
    """
    outers, holes = list[Ring](), list[Ring]()
    for ring in rings(mask):
        (outers if mask[tuple(ring[0])] else holes).append(ring)
    if len(outers) > 1:
        raise ValueError("the mask has several 4-connected components; give one")
    if not outers:
        raise ValueError("the mask has no pixel")
    # From its leftmost vertex a hole looks left: what it meets is the outer ring, or a hole that is joined already.
    turned = [np.roll(hole, -int(np.lexsort((hole[:, 0], hole[:, 1]))[0]), axis=0) for hole in holes]
    outer = outers[0]
    for hole in sorted(turned, key=lambda ring: (int(ring[0, 1]), int(ring[0, 0]))):
        outer = join_hole(outer, hole)
    return outer[:, ::-1].astype(np.float64)


def rings(mask: npt.NDArray[Any]) -> list[Ring]:
    """The closed borders of a mask's 4-connected components and of their holes, each from its first vertex (by row,
    then column), along its upper edge to the right."""
    y, x, west, north = corners(mask)
    across = partners(np.lexsort((west, x, y)))
    down = partners(np.lexsort((north, y, x)))
    points, across_of, down_of = np.stack([y, x], axis=1), across.tolist(), down.tolist()
    seen, borders = [False] * len(points), list[Ring]()
    for first in range(len(points)):
        walk, vertex = list[int](), first
        while not seen[vertex]:
            right = across_of[vertex]
            seen[vertex] = seen[right] = True
            walk += [vertex, right]
            vertex = down_of[right]
        if walk:
            borders.append(points[walk])
    return borders


def corners(mask: npt.NDArray[Any]) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Where the border turns: y, x and its order among vertices of one place along the row and along the column.

    Sorted by y, then x. Where two pixels touch by a corner alone there are two vertices, one of each pixel.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    # the four pixels around each lattice point: bit 0 north-west, 1 north-east, 2 south-west, 3 south-east
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    turns = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])[around]
    y, x = np.nonzero(turns)
    repeat, kind = turns[y, x], around[y, x]
    y, x, kind = np.repeat(y, repeat), np.repeat(x, repeat), np.repeat(kind, repeat)
    second = np.append(False, (np.diff(y) == 0) & (np.diff(x) == 0)) if len(y) else np.zeros(0, bool)
    north = second.astype(np.int64)  # the first of a pair is the northern pixel's, the second the southern's
    west = np.where(kind == 6, 1 - north, north) * (np.repeat(repeat, repeat) == 2)  # 6: north-east and south-west
    return y, x, west, north


def partners(order: IntArray) -> IntArray:
    """The other end of each vertex's edge, for vertices sorted along the lines: first and second, third and fourth …"""
    other = np.empty_like(order)
    other[order[0::2]], other[order[1::2]] = order[1::2], order[0::2]
    return other


def join_hole(outer: Ring, hole: Ring) -> Ring:
    """`outer` with the hole spliced in by a seam from the hole's first vertex to the nearest border on its left."""
    y, x = hole[0]
    after = np.roll(outer, -1, axis=0)
    upright = outer[:, 1] == after[:, 1]
    low, high = np.minimum(outer[:, 0], after[:, 0]), np.maximum(outer[:, 0], after[:, 0])
    crossed = np.flatnonzero(upright & (outer[:, 1] < x) & (low <= y) & (y <= high))
    edge = int(crossed[np.argmax(outer[crossed, 1])])
    foot = np.array([[y, outer[edge, 1]]])
    backwards = [hole[:1], hole[:0:-1], hole[:1]]  # against the outer ring: its area counts as negative
    return np.concatenate([outer[: edge + 1], foot, *backwards, foot, outer[edge + 1 :]])
