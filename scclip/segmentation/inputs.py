"""Tells an image that can be labeled from an array that only looks like one, and says how to mend it.

check_image(array)  # UserError: image of float32 (480, 640, 3) in 0 to 1; give (image * 255).round().astype("uint8")
"""

import numpy as np

from scclip.errors import UserError


def check_images(images: object) -> None:
    """Checks what shall be a sequence of images; raises UserError with the remedy for a single array and as below."""
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise UserError(f"one array {images.shape} where a list of images belongs; give [image]")
    for image in images:  # type: ignore[attr-defined]
        check_image(image)


def check_image(image: object) -> None:
    """Checks an array of pixels.

    Args:
        image: must be uint8 RGB (H, W, 3). That its channels are RGB and not BGR, as OpenCV reads them, cannot be told.

    Raises:
        UserError: anything else, with the expression that makes an image of it.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(f"image of type {type(image).__name__}: give a numpy array, uint8 RGB (H, W, 3)")
    remedy = _shape_remedy(image) or _dtype_remedy(image)
    if remedy:
        raise UserError(f"image of {image.dtype} {image.shape}: must be uint8 RGB (H, W, 3); {remedy}")


def _shape_remedy(image: np.ndarray) -> str:
    """What turns the array into one of the right shape; empty where its shape is right."""
    if image.ndim == 4:
        return "give several images as a list, list(images)"
    if image.ndim == 2 and image.shape[1] == 3:
        return "if it is a row of an image, give the image itself, not list(image)"
    if image.ndim == 2:
        return "if it is grey, give np.stack([image] * 3, axis=-1)"
    if image.ndim != 3:
        return "give the pixels of a picture"
    if image.size == 0:
        return "it has no pixels"
    channels = image.shape[2]
    if channels != 3 and image.shape[0] in (1, 3, 4):
        return "its channels come first, give image.transpose(1, 2, 0)"
    if channels != 3:
        known = {1: "it is grey, give np.repeat(image, 3, axis=2)", 4: "if it is RGBA, give image[..., :3]"}
        return known.get(channels, "choose three channels")
    return ""


def _dtype_remedy(image: np.ndarray) -> str:
    """What turns the array into uint8; empty where it is."""
    if image.dtype == np.uint8:
        return ""
    if image.dtype == np.bool_:
        return 'give image.astype("uint8") * 255'
    if image.dtype.kind == "f" and image.max() <= 1:
        return 'its values are 0 to 1, give (image * 255).round().astype("uint8")'
    if image.dtype == np.uint16:
        return 'give (image >> 8).astype("uint8") where it has 16 bits, else image.astype("uint8")'
    return 'bring its values to 0 to 255, then image.astype("uint8")'
