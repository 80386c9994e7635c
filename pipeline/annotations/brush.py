"""Masks as Label Studio's brush stores them: run lengths of RGBA values, packed bit by bit.

    brush(mask)      # [0, 0, 64, 0, …], the bytes that the field `rle` of a brush region holds

The format is thi.ng's rle-pack with words of eight bits: the number of values, the word size, four sizes of run
lengths, then the runs. Each run is a 1, which of the four sizes follows, its length − 1 and its value.
"""

import numpy as np
import numpy.typing as npt

SIZES = (3, 4, 8, 16)  # bits of a run's length
CHANNELS = 4  # every pixel is R, G, B and A
LONGEST = 1 << SIZES[-1]  # values of a run


def brush(mask: npt.NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask (H, W), row by row."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths, values = np.diff(np.append(starts, flat.size)) * CHANNELS, flat[starts]
    pieces = -(-lengths // LONGEST)
    last = np.cumsum(pieces) - 1
    cut = np.full(int(pieces.sum()), LONGEST)
    cut[last] = lengths - (pieces - 1) * LONGEST
    kind = np.searchsorted(1 << np.array(SIZES), cut)
    size = np.array(SIZES)[kind]
    words = (((4 + kind) << size | cut - 1) << 8) | np.repeat(values, pieces) * 255
    bits = np.unpackbits(words.astype(">u4")[:, None].view(np.uint8), axis=1)
    packed = bits[np.arange(32) >= 32 - (1 + 2 + size + 8)[:, None]]
    head = (flat.size * CHANNELS) << 21 | 7 << 16 | sum(size - 1 << 4 * (3 - index) for index, size in enumerate(SIZES))
    # 32 bits of the count, 5 of the word size − 1, 4 × 4 of the sizes − 1: 53 bits
    header = np.unpackbits(np.frombuffer(head.to_bytes(7, "big"), np.uint8))[3:]
    return np.packbits(np.concatenate([header, packed])).tolist()
