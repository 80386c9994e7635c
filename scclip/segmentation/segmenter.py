"""Image in, label map out: windows through the model, exact stitching, thresholds.

    segmenter = WindowSegmenter(model, text_features, vocabulary.query_category, SegmenterConfig(logit_scale=40))
    label_map = segmenter.segment([image])[0].labels  # (H, W) category index

Shapes: H W pixels of the original image, h w of the resized one, Q queries, U distinct queries, C categories that have
queries, gh gw the patch grid of a window, G grid positions of all windows of an axis side by side, g those that a tile
reads, R × W pixels of a tile, E joint embedding.

Category indices: 0 background (exists only if a query has category 0), 1…N classes, ignore 255 (65535 in uint16 maps,
which vocabularies of more than 254 classes get).
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.cuda import GraphedTower, Uploader
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import one_line
from scclip.segmentation import windows
from scclip.segmentation.inputs import check_images
from scclip.segmentation.lanes import Lanes
from scclip.segmentation.refinement import refine
from scclip.segmentation.scoring import ENTROPY_STEP, PixelScores, QueryScorer, Tile
from scclip.segmentation.statistics import SegmentationSummary
from scclip.segmentation.types import Segmentation, SegmenterConfig
from scclip.segmentation.windows import AxisWindows, Band

if TYPE_CHECKING:
    from scclip.segmentation.fused import FusedSegmenter

BAND_PIXELS = 56  # of the resized image in a column band: a tile then reads 5 to 12 of 42 grid columns at 640 x 480
GPU_TILES = 64  # times tile_mib: a GPU wants few large tiles
Sizes = Sequence[tuple[int, int]]  # height and width of each image
Segmentations = tuple[Segmentation, ...]  # of one image, by each variant
UNOBSERVED = contextlib.nullcontext()


@dataclass
class _Image:
    """An image on its way through the model."""

    pixels: Tensor
    """(3, h, w) float32, normalised, on the device."""
    size: tuple[int, int]
    """Height and width of the label map."""
    rows: AxisWindows
    cols: AxisWindows
    index: int
    """Position among the images of the call."""
    logits: list[list[Tensor]] = field(default_factory=list)
    """For each window and variant: (U, gh, gw) float32 cosines."""
    anomalies: list[list[Tensor]] = field(default_factory=list)
    """For each window and variant: () int64 number of anomalous tokens."""

    @property
    def windows(self) -> int:
        """How many windows the image has."""
        return len(self.rows.starts) * len(self.cols.starts)


class WindowSegmenter:
    """Labels images with one model, or variants of it, and one set of text features; it keeps nothing of an image."""

    def __init__(
        self,
        model: SelfCalibratedCLIP,
        text_features: np.ndarray | Tensor,
        query_category: Sequence[int],
        config: SegmenterConfig | None = None,
        variants: Sequence[CalibrationConfig] = (),
        stage: Callable[[str], AbstractContextManager[object]] = lambda name: UNOBSERVED,
    ) -> None:
        """Uses a calibrated tower to label images by the text features of a vocabulary.

        Args:
            model: the vision tower, on the device and in the dtype it shall compute in.
            text_features: (Q, E) float32 of unit norm, as `encode_queries` gives them.
            query_category: (Q,) category index of each query, 0…65,534; queries of one category are synonyms.
            config: resize, windows, scores and thresholds; None: the defaults.
            variants: settings of the method to label with beside each other; empty: the model's own.
            stage: opens a context around each stage of the work, given its name: resize, encode, cosines, stitch,
                score or maps. With `torch.profiler.record_function` a PyTorch profile shows the stages. The default
                does nothing.
        """
        self.model = model
        self.config = config or SegmenterConfig()
        self.text_features = torch.as_tensor(text_features)
        self.query_category = tuple(query_category)
        self.variants = tuple(variants) or (model.calibration,)
        self.stage = stage
        self._halo = self.config.pamr_steps * max(self.config.pamr_dilations)  # rows around a tile that PAMR reads
        self._lanes = Lanes()
        self._upload, self._forward = Uploader(model.device), GraphedTower(model, self.variants, self.config.window)
        self._scorer = QueryScorer(self.text_features.to(model.device), self.query_category, self.config)
        self._fused = self._find_fused() if model.device.type == "cuda" and not self.config.pamr_steps else None
        self._mean = torch.tensor(self.config.mean, device=model.device)[:, None, None]
        self._std = torch.tensor(self.config.std, device=model.device)[:, None, None]

    @property
    def device(self) -> torch.device:
        """The device the model lies on."""
        return self.model.device

    def segment(self, images: Sequence[np.ndarray], sizes: Sizes | None = None) -> list[Segmentation]:
        """Labels images of any sizes; their windows share batches.

        Args:
            images: uint8 RGB arrays (H, W, 3).
            sizes: (H, W) of each label map, where images were decoded at a reduced scale; None: the images' own.

        Returns:
            One `Segmentation` for each image, in order, by the first variant.

        Raises:
            UserError: a single array, or one that is no uint8 RGB image, with the remedy.
        """
        return [first for first, *_ in self.segment_variants(images, sizes)]

    def segment_variants(self, images: Sequence[np.ndarray], sizes: Sizes | None = None) -> list[Segmentations]:
        """Labels images as `segment` does; returns one `Segmentation` for each image and variant."""
        check_images(images)
        scorer = self._scorer
        wanted = [image.shape[:2] for image in images] if sizes is None else sizes
        if self._fused is not None:
            return self._fused.segment(images, wanted, self.config.window_batch)
        pairs = list(zip(images, wanted, strict=True))
        results: dict[int, Segmentations] = {}

        def lane(queue: Iterator[tuple[int, tuple[np.ndarray, tuple[int, int]]]]) -> None:
            loaded = (self._prepare(self._load(image, size), size, index) for index, (image, size) in queue)
            for image in self._encode(loaded, scorer):
                finished = (self._finish(image, scorer, variant) for variant in range(len(self.variants)))
                results[image.index] = tuple(finished)

        self._lanes.run(lane, enumerate(pairs), len(pairs) if self.device.type == "cpu" else 1)
        return [results[index] for index in range(len(pairs))]

    def summarise_variants(
        self, images: Sequence[np.ndarray], sizes: Sizes | None = None, scores: bool = False
    ) -> list[tuple[SegmentationSummary, ...]]:
        """Labels images as `segment_variants` does and keeps of each the labels and what their scores add up to.

        Args:
            images: uint8 RGB arrays (H, W, 3).
            sizes: (H, W) of each label map; None: the images' own.
            scores: keep each pixel's category before thresholds and its confidence as well.
        """
        if self._fused is not None:
            wanted = [image.shape[:2] for image in images] if sizes is None else sizes
            summaries = self._fused.summarise(images, wanted, self.config.window_batch, scores)
            if summaries is not None:
                return summaries
        variants = self.segment_variants(images, sizes)
        return [tuple(SegmentationSummary.of(maps, scores) for maps in of_image) for of_image in variants]

    def segment_pixels(self, pixels: Tensor, size: tuple[int, int]) -> Segmentation:
        """Labels one image that is resized and normalised already.

        Args:
            pixels: (3, h, w) or (1, 3, h, w) float RGB, normalised by CLIP's mean and deviation, on any device.
            size: (H, W) of the label map.

        Returns:
            The `Segmentation` of the first variant.
        """
        scorer = self._scorer
        return self._finish(self._encode_pixels(pixels, size, scorer), scorer)

    def cosine_logits(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """The cosines behind `segment_pixels`, before scale, softmax and thresholds.

        Args:
            pixels: (3, h, w) or (1, 3, h, w) float RGB, normalised by CLIP's mean and deviation, on any device.
            size: (H, W) of the result.

        Returns:
            (Q, H, W) float32 in [-1, 1] on the model's device.
        """
        scorer = self._scorer
        cosines_HWU = torch.empty(*size, len(scorer.text_features), device=self.device)
        for tile in self._tiles(self._encode_pixels(pixels, size, scorer), scorer):
            cosines_HWU[tile.rows, tile.cols] = tile.logits
        return cosines_HWU.permute(2, 0, 1)[scorer.distinct_of_query]

    def _find_fused(self) -> "FusedSegmenter | None":
        """The GPU's own path; None, with a warning, where Triton is missing or cannot compile here."""
        try:
            from scclip.segmentation.fused import FusedSegmenter

            fused = FusedSegmenter(self.model, self._forward, self._scorer, self.config, lambda name: self.stage(name))
            fused.compile()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            warnings.warn(f"labels are scored without the GPU's own kernels, slower: {one_line(error)}", stacklevel=3)
            return None
        return fused

    def _encode_pixels(self, pixels: Tensor, size: tuple[int, int], scorer: QueryScorer) -> _Image:
        image = self._prepare(pixels.reshape(pixels.shape[-3:]).to(self.device), size)
        return next(self._encode(iter([image]), scorer))

    def _load(self, image: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Uploads, resizes and normalises: uint8 (H, W, 3) of an image of `size` → float32 (3, h, w) on the device."""
        with self.stage("resize"):
            side = windows.resized_side(*size, self.config.short_side, self.config.long_side, self.model.patch_size)
            resized = windows.resize(self._upload(image), side)
            return (resized.float() / 255 - self._mean) / self._std

    def _prepare(self, pixels: Tensor, size: tuple[int, int], index: int = 0) -> _Image:
        """Lays the windows out: normalised (3, h, w) → an image without logits."""
        config = self.config
        sides = zip(pixels.shape[1:], self.model.patch_size, strict=True)
        rows, cols = (windows.axis_windows(side, config.window, config.stride, patch) for side, patch in sides)
        return _Image(pixels, size, rows, cols, index)

    def _encode(self, images: Iterator[_Image], scorer: QueryScorer) -> Iterator[_Image]:
        """Sends the windows of all images through the model in static batches; yields the encoded images in order.

        A batch holds windows of one shape. Images wait for each other only while their windows share a batch.
        """
        size = self.config.window_batch  # another thread may halve it meanwhile
        waiting: list[_Image] = []
        batch: list[tuple[_Image, Tensor]] = []
        for image in images:
            for window in windows.crop_windows(image.pixels, image.rows, image.cols):
                if batch and (len(batch) == size or batch[0][1].shape != window.shape):
                    self._encode_batch(batch, scorer, size)
                    batch = []
                batch.append((image, window))
            waiting.append(image)
            while len(waiting[0].logits) == waiting[0].windows:
                yield waiting.pop(0)
                if not waiting:
                    break
        if batch:
            self._encode_batch(batch, scorer, size)
        yield from waiting

    def _encode_batch(self, batch: list[tuple[_Image, Tensor]], scorer: QueryScorer, size: int) -> None:
        """One forward pass of `size` windows, padded: each image gets the cosines (U, gh, gw) of its windows."""
        pixels = torch.stack([window for _, window in batch])
        pixels = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, size - len(batch)))
        with self.stage("encode"):
            encoded = self._forward(pixels)
        grid = self.model.grid(*pixels.shape[-2:])
        with self.stage("cosines"):
            logits = [scorer.cosines(features).unflatten(-1, grid) for features, _ in encoded]
        for index, (image, _) in enumerate(batch):
            image.logits.append([variant[index] for variant in logits])
            image.anomalies.append([counts[index] for _, counts in encoded])  # read later: a GPU is not waited for here

    def _axis_bands(self, image: _Image, queries: int) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
        """Bands of rows and of columns whose crossings are the tiles: the logits of one tile keep to `tile_mib`."""
        height, width = image.size
        on_cpu, halo = self.device.type == "cpu", self._halo
        mib = self.config.tile_mib * (1 if on_cpu else GPU_TILES)
        budget = max(1, mib * 2**20 // (4 * queries))  # pixels of a tile; few queries need few tiles
        narrow = min(round(image.cols.side / BAND_PIXELS), -(-height * width // budget)) if on_cpu and not halo else 1
        columns = -(-width // max(1, narrow))
        rows = max(1, budget // min(columns, width), halo)
        whole = self.config.window == 0
        row_bands = windows.axis_bands(height, image.rows, whole, rows, halo, self.device)
        return row_bands, windows.axis_bands(width, image.cols, whole, columns, 0, self.device)

    def _tiles(self, image: _Image, scorer: QueryScorer, scale: float = 1.0, variant: int = 0) -> Iterator[Tile]:
        """A variant's logits at the original size, `scale` times the cosines, tile by tile from the top left."""
        with self.stage("stitch"):
            logits = torch.stack([of_window[variant] for of_window in image.logits])
            laid_GGU = scale * windows.lay_side_by_side(logits, image.rows, image.cols).permute(1, 2, 0)
            guide = self._guide(image) if self._halo else None
            bands = self._axis_bands(image, laid_GGU.shape[-1])
        for rows, cols in itertools.product(*bands):
            with self.stage("stitch"):
                tile = self._stitch(laid_GGU, rows, cols, guide)
            yield tile

    def _stitch(self, laid: Tensor, rows: Band, cols: Band, guide: Tensor | None) -> Tile:
        """The tile where two bands cross: (G, G, U) logits of the windows → (R, W, U), refined if there is a guide."""
        block_ggU = laid[rows.grid][:, cols.grid].contiguous()
        down_RgU = (rows.operator @ block_ggU.flatten(1)).unflatten(1, block_ggU.shape[1:])
        logits_RWU = cols.operator @ down_RgU
        if guide is None:
            return Tile(rows.pixels, cols.pixels, logits_RWU, cols.operator, down_RgU)
        steps, dilations = self.config.pamr_steps, self.config.pamr_dilations
        refined_URW = refine(logits_RWU.permute(2, 0, 1).contiguous(), guide[:, rows.padded], steps, dilations)
        first = rows.pixels.start - rows.padded.start
        inner_URW = refined_URW[:, first : first + rows.pixels.stop - rows.pixels.start]
        return Tile(rows.pixels, cols.pixels, inner_URW.permute(1, 2, 0).contiguous())

    def _guide(self, image: _Image) -> Tensor:
        """The resized normalised picture brought bilinearly to the original size: (3, H, W) float32."""
        sides = zip(image.size, image.pixels.shape[1:], strict=True)
        rows, cols = (windows.bilinear_matrix(*pair).float().to(self.device) for pair in sides)
        return rows @ image.pixels.float() @ cols.T

    def _finish(self, image: _Image, scorer: QueryScorer, variant: int = 0) -> Segmentation:
        """Scores an encoded image and makes its maps; a second pass over the tiles if the area filter drops classes."""
        scores, entropy = self._score(image, scorer, None, variant)
        if self.config.area_threshold:
            area = torch.bincount(scores.best.flatten().long(), minlength=len(scorer.categories))
            dropped = scorer.small_categories(area)
            if bool(dropped.any()):
                scores, entropy = self._score(image, scorer, dropped, variant)
        anomalies = int(torch.stack([counts[variant] for counts in image.anomalies]).sum())
        with self.stage("maps"):
            maps = scorer.label_maps(scores)
        return Segmentation(*maps, entropy=entropy, anomaly_tokens=anomalies, windows=image.windows)

    def _score(
        self, image: _Image, scorer: QueryScorer, dropped: Tensor | None, variant: int
    ) -> tuple[PixelScores, float]:
        """Scores of every pixel without the `dropped` (C,) bool categories, and the mean entropy in nats."""
        scores = PixelScores.empty(image.size, self.device)
        entropy, samples = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for tile in self._tiles(image, scorer, self.config.logit_scale, variant):
            with self.stage("score"):
                log_total_RW = scorer.write_scores(tile, dropped, scores)
            every = tuple(slice(-side.start % ENTROPY_STEP, None, ENTROPY_STEP) for side in (tile.rows, tile.cols))
            sample_RWU = tile.logits[every]
            entropy += scorer.entropy(sample_RWU, log_total_RW[every]).double().sum()
            samples += sample_RWU[..., 0].numel()
        return scores, float(entropy) / samples
