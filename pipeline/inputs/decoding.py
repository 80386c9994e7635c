"""Image bytes to RGB arrays; whatever cannot be decoded becomes a row that says why.

Every format ends as 8-bit RGB, sample by sample as most datasets' own loaders have it (`PIL.Image.convert("RGB")`):
alpha is dropped, not composed; palettes are looked up; CMYK and Adobe's inverted YCCK go through Pillow's conversion.
Deeper samples are scaled, where Pillow would clip: 16-bit ones lose their low byte; 32-bit integers are taken as 8-bit
or 16-bit values if they fit, floats as 0..1 or 0..255 if they fit (not-a-number as 0); anything else is stretched from
its smallest to its largest value.
GIF and WebP give their first frame, TIFF its first page that is no thumbnail. AVIF is read where Pillow reads it, HEIC
where pillow-heif is installed.

>>> decode_image(open("photo.jpg", "rb").read(), DecodeConfig()).rgb.shape
(480, 640, 3)
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from scclip.pipeline.annotations.schemas import ImageError, ImageRecord, Status, records_of, schema_of, table_of
from scclip.pipeline.inputs.chunks import Chunk, EncodedImage
from scclip.pipeline.inputs.headers import BROKEN, header_size, tiff_page
from scclip.pipeline.inputs.names import AVIF, HEIF
from scclip.pipeline.inputs.refusals import refusal
from scclip.pipeline.inputs.repairs import repaired

if HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it logs of bad files is raised as well

MORE_FORMATS = ("AVIF",) * AVIF + ("HEIF",) * HEIF
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", *MORE_FORMATS)  # JPEG: also MPO, several pictures in one
SCALED_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BAND = 2**20  # pixels that are converted at a time; their copies as float64 take 32 MiB
ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """How images are decoded."""

    exif: str = "apply"
    """"apply" turns the image as its EXIF orientation says (as Detectron2 and mmcv do), "ignore" does not."""
    max_pixels: int = 2**28
    """Images with more pixels by their header are refused undecoded; 2^28 is 768 MiB of RGB.

    Decoding takes at most 16 bytes a pixel beside the file: 8 for PNG, TIFF, BMP, GIF and JPEG, which are 2 GiB at 2^28
    pixels, 10 for a progressive JPEG, 13 for AVIF and HEIC, 16 for WebP, whose decoders hold copies of their own.
    """
    reduced_side: int = 0
    """JPEGs are decoded at 1/2, 1/4 or 1/8 scale where the short side keeps so many pixels; 0: at full scale."""

    def __post_init__(self) -> None:
        if self.reduced_side < 0:
            raise ValueError(f"reduced_side is {self.reduced_side}; give 0 or more pixels")
        if self.exif not in ("apply", "ignore"):
            raise ValueError(f"exif is {self.exif!r}; give apply or ignore")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; give 1 or more")


class DecodeError(ImageError):
    """An image that cannot be decoded."""


@dataclass(frozen=True)
class Pixels:
    """What `decode_image` makes of the bytes of one image."""

    rgb: np.ndarray
    """(H, W, 3) uint8, contiguous, H and W after orientation."""
    orientation: int
    """EXIF orientation as found, 1..8; 1 where there is none."""
    size: tuple[int, int]
    """Height and width of the image after orientation; those of `rgb` are smaller at reduced scale."""


def decode_image(data: bytes, config: DecodeConfig) -> Pixels:
    """Decodes the bytes of one image; whatever goes wrong is a DecodeError with status and a one-line reason."""
    if not data:
        raise DecodeError(Status.EMPTY, "0 bytes")
    _refuse_bomb(header_size(data), config)
    try:
        return _attempt(data, config)
    except DecodeError as failure:
        if failure.status != Status.UNDECODABLE:
            raise
        file = repaired(data, str(failure), lambda other: _attempt(other, config).rgb)
        if file is None:
            raise
    return _attempt(file, config)


def decode_picture(picture: Image.Image, config: DecodeConfig) -> Pixels:
    """Decodes a picture that Pillow has opened, as `decode_image` does its file; DecodeError where that fails."""
    with _refusals():
        _refuse_bomb(picture.size, config)
        return _upright(_load(picture, picture.size[::-1]), config)


def _attempt(data: bytes, config: DecodeConfig) -> Pixels:
    with _refusals():
        try:
            return _decode(data, config)
        except (UnidentifiedImageError, KeyError):  # KeyError: a TIFF of a compression that Pillow has no name of
            raise DecodeError(*refusal(data)) from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns whatever goes wrong in the block into a DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF and the like; what matters raises
            yield
    except DecodeError:
        raise
    except MemoryError:
        raise DecodeError(Status.TOO_LARGE, "not enough memory to decode it") from None
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, zlib.error, … on bad bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DecodeError(Status.UNDECODABLE, reason) from None


def _refuse_bomb(size: tuple[int, int] | None, config: DecodeConfig) -> None:
    width, height = size or (1, 1)
    if width * height > config.max_pixels:
        count = f"{width} x {height} = {width * height:,} pixels"
        raise DecodeError(Status.TOO_LARGE, f"{count} by the header; at most {config.max_pixels:,} are decoded")


def _decode(data: bytes, config: DecodeConfig) -> Pixels:
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns at 89 and fails at 179 megapixels; ours is max_pixels
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.format == "TIFF":
            _seek_main_page(image, data)
        _refuse_bomb(image.size, config)
        size = image.size[::-1]
        if config.reduced_side and image.format in ("JPEG", "MPO"):
            _reduce(image, config.reduced_side)
        stored = _load(image, size)
    del image  # its pixels go before any copy of them is turned
    return _upright(stored, config)


def _load(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """The pixels of an opened image of this height and width, as they are stored."""
    before = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    orientation = _orientation(image)
    rgb = _scaled_rgb(image) if image.mode in SCALED_MODES else _rgb(image)
    if orientation == 1 and before != 1:  # Pillow has turned a TIFF while loading it
        orientation, rgb = before, _turned(rgb, {6: 8, 8: 6}.get(before, before))
        size = rgb.shape[:2]
    return Pixels(rgb, orientation, size)


def _upright(stored: Pixels, config: DecodeConfig) -> Pixels:
    """Pixels as they should be seen, contiguous."""
    rgb, size, orientation = stored.rgb, stored.size, stored.orientation
    if config.exif == "apply" and orientation != 1:
        rgb = _turned(rgb, orientation)
        size = size[::-1] if orientation >= 5 else size
    if 0 in rgb.shape:
        raise DecodeError(Status.UNDECODABLE, f"the image has no pixels ({rgb.shape[1]} x {rgb.shape[0]})")
    return Pixels(np.ascontiguousarray(rgb), orientation, size)


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """The image in bands of rows of BAND pixels or less, so that no copy of it is ever whole; a small one as it is."""
    width, height = image.size
    rows = max(1, BAND // max(1, width))
    if rows >= height:
        yield slice(0, height), image
        return
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield slice(top, bottom), image.crop((0, top, width, bottom))


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image of 8-bit samples."""
    if image.width * image.height <= BAND:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _bands(image):
        rgb[rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return rgb


def _scaled_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image of deeper samples; all bands are scaled alike."""
    bands = [_limits(np.asarray(band)) for _, band in _bands(image)]
    limits = min(low for low, _ in bands), max(high for _, high in bands)
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows, band in _bands(image):
        rgb[rows] = _scaled(np.asarray(band), *limits)[:, :, None]
    return rgb


def _seek_main_page(image: Image.Image, data: bytes) -> None:
    with contextlib.suppress(*BROKEN):  # Pillow may read what the header's reader does not
        if page := tiff_page(data)[0]:
            image.seek(page)


def _reduce(image: Image.Image, side: int) -> None:
    """Has the JPEG decoder leave out frequencies: the largest of 1/2, 1/4, 1/8 that keeps `side` pixels, or nothing."""
    width, height = image.size
    factor = min(width, height) // side
    if factor >= 2:
        image.draft("RGB", (width // factor, height // factor))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF is common, and no reason to lose the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as it should be seen: 2 mirrored, 3 turned by 180°, 4 flipped, 5 to 8 the same after transposing."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _finite(values: np.ndarray) -> np.ndarray:
    """The samples as float64, not-a-number as 0."""
    limit = float(np.finfo(np.float32).max)
    return np.clip(np.where(np.isnan(values), 0.0, values.astype(np.float64)), -limit, limit)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest sample."""
    samples = values if values.dtype.kind in "iu" else _finite(values)
    return float(samples.min()), float(samples.max())


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) of 16-bit, 32-bit or float samples → uint8; `low` and `high` are the limits of the whole image."""
    if values.dtype == np.uint16 or (values.dtype.kind == "i" and low >= 0 and 255 < high < 2**16):
        return (values >> 8).astype(np.uint8)
    samples = _finite(values)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    return ((samples - low) * (255 / max(high - low, 1e-30)) + 0.5).astype(np.uint8)


@dataclass(kw_only=True)
class DecodedImage(ImageRecord):
    """One image as the model takes it; `rgb` is null where it cannot be decoded."""

    truth: Annotated[bytes | memoryview | None, pa.large_binary(), "The file of its ground truth."] = None
    rgb: Annotated[memoryview | None, pa.large_binary(), "uint8 (rgb_height, rgb_width, 3)."] = None
    rgb_width: Annotated[int | None, pa.int32(), "Less than width where a JPEG was decoded at reduced scale."] = None
    rgb_height: Annotated[int | None, pa.int32(), "Less than height in the same case."] = None

    @property
    def array(self) -> np.ndarray:
        """The pixels that were decoded, uint8 (rgb_height, rgb_width, 3), not copied."""
        return np.frombuffer(self.rgb or b"", np.uint8).reshape(self.rgb_height or 0, self.rgb_width or 0, 3)

    def hold(self, pixels: Pixels) -> None:
        """Takes these pixels, not copied, and what is known of them."""
        self.rgb, self.orientation = pixels.rgb.data.cast("B"), pixels.orientation
        (self.height, self.width), (self.rgb_height, self.rgb_width, _) = pixels.size, pixels.rgb.shape


DECODED_SCHEMA = schema_of(DecodedImage)


def decode_chunk(chunk: Chunk, config: DecodeConfig, excluded: Callable[[int], str | None] = lambda _: None) -> Chunk:
    """A chunk of encoded images → the same of decoded images; those that failed before pass.

    `excluded` is called with each image's index before the image is touched: a reason means that it stays undecoded.
    """
    images = [_decoded(image, config, excluded(image.index)) for image in records_of(chunk.images, EncodedImage)]
    return chunk.with_images(table_of(images, DECODED_SCHEMA))


def _decoded(encoded: EncodedImage, config: DecodeConfig, excluded: str | None) -> DecodedImage:
    image = DecodedImage.of(encoded, truth=encoded.truth)
    try:
        if excluded:
            raise ImageError(Status.KILLED_WORKER, excluded)
        if encoded.status == Status.OK and encoded.data is not None:
            image.hold(decode_image(bytes(encoded.data), config))
    except ImageError as failure:
        image.status, image.error = failure.status, str(failure)
    return image
