"""Pictures as people have them, a path, a URL, bytes, a PIL image or an array, as the pixels that `scclip label` sees.

>>> read_image("photo.jpg", DecodeConfig()).rgb.shape
(480, 640, 3)
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from scclip.errors import UserError, one_line
from scclip.pipeline.annotations.schemas import ImageError
from scclip.pipeline.inputs.decoding import DecodeConfig, Pixels, decode_image, decode_picture
from scclip.pipeline.storage.files import read_bytes
from scclip.segmentation.inputs import check_image

Picture: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[np.uint8]

FORMS = "a path, a URL, the bytes of a file, a PIL image, a uint8 RGB array (H, W, 3), or a list of these"


def name_of(picture: Picture) -> str:
    """What messages call a picture: its path or URL, else what it is."""
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    return str(getattr(picture, "filename", "")) or f"image of type {type(picture).__name__}"


def read_images(pictures: Sequence[Picture], config: DecodeConfig) -> Iterator[Pixels]:
    """The pixels of several pictures as `read_image` gives them; its errors also name the place in a list."""
    for index, picture in enumerate(pictures):
        try:
            yield read_image(picture, config)
        except UserError as error:
            if len(pictures) == 1:
                raise
            raise UserError(f"picture {index} of {len(pictures)}: {error}") from None


def read_image(picture: Picture, config: DecodeConfig) -> Pixels:
    """The pixels of a picture, decoded and turned as `scclip label` does it.

    Arrays are taken as they are: their channels must be RGB, and BGR (OpenCV's order) cannot be told from it.

    Raises:
        UserError: no such file, bytes that are no picture, or an array that is no image, with the remedy.
    """
    try:
        if isinstance(picture, str | os.PathLike):
            return decode_image(file_bytes(os.fspath(picture)), config)
        if isinstance(picture, bytes | bytearray | memoryview):
            return decode_image(bytes(picture), config)
        if isinstance(picture, Image.Image):
            return decode_picture(picture, config)
    except ImageError as error:
        raise UserError(f"{name_of(picture)}: {error.status}: {error}; give {FORMS}") from None
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{type(picture).__name__} is no picture{_remedy(picture)}; give {FORMS}")
    check_image(picture)
    return Pixels(np.ascontiguousarray(picture), 1, (picture.shape[0], picture.shape[1]))


def file_bytes(path: str) -> bytes:
    """The content of a local file or a URL; UserError with the remedy where there is none to read."""
    url = path if "://" in path else str(Path(path).expanduser())
    try:
        return read_bytes(url)
    except IsADirectoryError:
        remedy = f"give its files, e.g. sorted(Path({path!r}).glob('*.jpg')), or run scclip label on it"
        raise UserError(f"{path} is a folder; {remedy}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}; check path and rights") from None


def _remedy(picture: object) -> str:
    """How to turn what other libraries hold into an array."""
    if hasattr(picture, "permute"):
        return "; give image.permute(1, 2, 0).cpu().numpy(), as uint8"
    return "; give its `bytes`" if isinstance(picture, dict) else ""
