"""Copies of pictures for an export: as they were, but upright where the labels are, and readable for the trainer.

data, extension = copied(data, image, rules, upright=True)
"""

import io
from contextlib import suppress

from PIL import Image, ImageOps, JpegImagePlugin

from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.export.names import NameRules
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.names import IMAGE_EXTENSIONS, split_name

MAGIC = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
MAGIC |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tif")
QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 95}  # of pictures that are turned; other formats lose nothing


def copied(data: bytes, image: ImageRecord, rules: NameRules, upright: bool) -> tuple[bytes, str]:
    """The file of a picture for an export, and its extension.

    Args:
        data: The file as it was read.
        image: The labeled image that it is.
        rules: What the reader of the export demands.
        upright: Whether the labels are those of the picture turned as its orientation says.
    """
    kind, extension = content_kind(data), split_name(image.file_name)[1]
    if extension not in IMAGE_EXTENSIONS:
        extension = kind
    if kind not in rules.extensions:  # readers look at the content, too
        return as_png(data, upright), "png"
    if extension not in rules.extensions:
        extension = kind
    if upright and image.orientation not in (None, 1):
        turned_data = turned(data, image.shape)
        return (as_png(data, upright), "png") if turned_data is None else (turned_data, extension)
    return data, extension


def content_kind(data: bytes) -> str:
    """The extension that the first bytes of an image stand for."""
    if data[4:8] == b"ftyp":
        return "avif" if data[8:11] == b"avi" else "heic"
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "jpg")


def as_png(data: bytes, upright: bool) -> bytes:
    """The first frame of any picture as PNG, as it was labeled."""
    return png(decode_image(data, DecodeConfig(exif="apply" if upright else "ignore")).rgb)


def turned(data: bytes, shape: tuple[int, int]) -> bytes | None:
    """A picture in its own format turned as its orientation says, without the tag; None where that fails.

    Args:
        data: The file.
        shape: Height and width that the result must have.
    """
    Image.MAX_IMAGE_PIXELS = None  # it has been decoded before
    buffer = io.BytesIO()
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:  # Pillow's plugins raise any error
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        options = {"quality": QUALITY[kind]} if kind in QUALITY else {}
        if kind == "JPEG":
            options["subsampling"] = JpegImagePlugin.get_sampling(image)
        upright = ImageOps.exif_transpose(image)
        if upright.size == shape[::-1]:
            upright.save(buffer, kind, icc_profile=image.info.get("icc_profile"), exif=upright.getexif(), **options)
            return buffer.getvalue()
    return None
