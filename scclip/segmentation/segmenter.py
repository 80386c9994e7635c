"""Image in, label map out: windows through the model, exact stitching, thresholds.

    segmenter = Segmenter(model, text_features, vocabulary.query_category, SegmenterConfig(logit_scale=40))
    label_map = segmenter.segment([image])[0].labels  # (H, W) category index

Shapes: H W pixels of the original image, h w of the resized one, Q queries, U distinct queries, C categories that have
queries, gh gw the patch grid of a window, E joint embedding. Category indices: 0 background (exists only if a query
has category 0), 1…N classes, ignore 255 (65535 in uint16 maps, which vocabularies of more than 254 classes get).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.cuda import GraphedTower, Uploader
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.segmentation.lanes import Lanes
from scclip.segmentation.refinement import refine
from scclip.segmentation.scoring import PixelScores, QueryScorer, Tile
from scclip.segmentation.types import Segmentation, SegmenterConfig
from scclip.segmentation.windows import (
    AxisWindows,
    Band,
    axis_bands,
    axis_windows,
    crop_windows,
    lay_side_by_side,
    resize,
    resized_side,
    whole_operator,
)

BAND_PIXELS = 56  # of the resized image in a column band: a tile then reads 5 to 12 of 42 grid columns at 640 x 480
GPU_TILES = 64  # times tile_mib: a GPU wants few large tiles
ENTROPY_STEP = 8  # the entropy is a mean over every 8th row and column: it needs all queries' probabilities


@dataclass
class _Image:
    """An image on its way through the model."""

    pixels: Tensor
    size: tuple[int, int]
    rows: AxisWindows
    cols: AxisWindows
    place: int
    logits: list[list[Tensor]] = field(default_factory=list)
    """Of each window, by variant: (U, gh, gw) cosines."""
    anomalies: list[list[Tensor]] = field(default_factory=list)
    """Of each window, by variant."""

    @property
    def windows(self) -> int:
        return len(self.rows.starts) * len(self.cols.starts)


class Segmenter:
    """Labels images with one model, or variants of it, and one set of text features; holds no other state."""

    def __init__(
        self,
        model: SelfCalibratedCLIP,
        text_features: np.ndarray | Tensor,
        query_category: Sequence[int],
        config: SegmenterConfig | None = None,
        variants: Sequence[CalibrationConfig] = (),
    ) -> None:
        """`text_features` (Q, E) float32 of unit norm, `query_category` (Q,) category index of each query.

        `variants`: settings to label with beside each other; none: the model's own.
        """
        self.model = model
        self.config = config or SegmenterConfig()
        self.text_features = torch.as_tensor(text_features)
        self.query_category = tuple(query_category)
        self.variants = tuple(variants) or (model.calibration,)
        self._lanes = Lanes()
        self._upload, self._forward = Uploader(model.device), GraphedTower(model, self.variants, self.config.window)
        self._mean = torch.tensor(self.config.mean, device=model.device)[:, None, None]
        self._std = torch.tensor(self.config.std, device=model.device)[:, None, None]

    @property
    def device(self) -> torch.device:
        """The device the model lies on."""
        return self.model.device

    def segment(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Segmentation]:
        """uint8 RGB arrays (H, W, 3) of any sizes → one `Segmentation` each, in order, by the first variant.

        `sizes` (H, W) are those of the label maps where images were decoded at reduced scale.
        """
        return [first for first, *_ in self.segment_variants(images, sizes)]

    def segment_variants(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[tuple[Segmentation, ...]]:
        """`segment` with one `Segmentation` for each variant."""
        scorer = self._scorer(self.text_features, self.query_category)
        wanted = [image.shape[:2] for image in images] if sizes is None else sizes
        pairs = list(zip(images, wanted, strict=True))
        results: dict[int, tuple[Segmentation, ...]] = {}

        def lane(queue: Iterator[tuple[int, tuple[np.ndarray, tuple[int, int]]]]) -> None:
            loaded = (self._prepare(self._load(image, size), size, place) for place, (image, size) in queue)
            for image in self._encode(loaded, scorer):
                results[image.place] = tuple(
                    self._finish(image, scorer, variant) for variant in range(len(self.variants))
                )

        self._lanes.run(lane, enumerate(pairs), len(pairs) if self.device.type == "cpu" else 1)
        return [results[place] for place in range(len(pairs))]

    def segment_pixels(
        self,
        pixels: Tensor,
        size: tuple[int, int],
        text_features: Tensor | np.ndarray | None = None,
        query_category: Sequence[int] | None = None,
    ) -> Segmentation:
        """Normalised pixels (3, h, w) or (1, 3, h, w) of one resized image → its label map of `size` (H, W).

        `text_features` (Q, E) and `query_category` (Q,) replace the segmenter's own where given.
        """
        scorer, image = self._single(pixels, size, text_features, query_category)
        return self._finish(image, scorer)

    def cosine_logits(
        self, pixels: Tensor, size: tuple[int, int], text_features: Tensor | np.ndarray | None = None
    ) -> Tensor:
        """The cosines behind `segment_pixels`, before scale, softmax and thresholds: (Q, H, W) float32."""
        queries = len(self.text_features if text_features is None else text_features)
        scorer, image = self._single(pixels, size, text_features, range(queries))
        cosines_HWU = torch.empty(*size, len(scorer.text_features), device=self.device)
        for tile in self._tiles(image, scorer):
            cosines_HWU[tile.rows, tile.cols] = tile.logits
        return cosines_HWU.permute(2, 0, 1)[scorer.distinct_of_query]

    def _single(
        self,
        pixels: Tensor,
        size: tuple[int, int],
        text_features: Tensor | np.ndarray | None,
        query_category: Sequence[int] | None,
    ) -> tuple[QueryScorer, _Image]:
        features = self.text_features if text_features is None else torch.as_tensor(text_features)
        scorer = self._scorer(features, self.query_category if query_category is None else tuple(query_category))
        image = self._prepare(pixels.reshape(pixels.shape[-3:]).to(self.device), size)
        return scorer, next(self._encode(iter([image]), scorer))

    def _scorer(self, text_features: Tensor, query_category: Sequence[int]) -> QueryScorer:
        return QueryScorer(text_features.to(self.device), query_category, self.config)

    def _load(self, image: np.ndarray, size: tuple[int, int]) -> Tensor:
        """uint8 (H, W, 3) of an image of `size` → normalised float32 (3, h, w) on the device."""
        side = resized_side(*size, self.config.short_side, self.config.long_side, self.model.patch_size)
        resized = resize(self._upload(image), side)
        return (resized.float() / 255 - self._mean) / self._std

    def _prepare(self, pixels: Tensor, size: tuple[int, int], place: int = 0) -> _Image:
        config = self.config
        rows, cols = (
            axis_windows(side, config.window, config.stride, patch)
            for side, patch in zip(pixels.shape[1:], self.model.patch_size, strict=True)
        )
        return _Image(pixels, size, rows, cols, place)

    def _encode(self, images: Iterator[_Image], scorer: QueryScorer) -> Iterator[_Image]:
        """Sends the windows of all images through the model in static batches; yields images in order, encoded.

        A batch holds windows of one shape. Images wait for each other only while their windows share a batch.
        """
        size = self.config.window_batch  # another thread may halve it meanwhile
        waiting: list[_Image] = []
        batch: list[tuple[_Image, Tensor]] = []
        for image in images:
            for window in crop_windows(image.pixels, image.rows, image.cols):
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
        """One forward pass of `size` windows, padded: cosine logits (U, gh, gw) of every window go to its image."""
        pixels = torch.stack([window for _, window in batch])
        padding = size - len(batch)
        encoded = self._forward(F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, padding)))
        grid = self.model.grid(*pixels.shape[-2:])
        logits = [scorer.cosines(features).unflatten(-1, grid) for features, _ in encoded]
        for place, (image, _) in enumerate(batch):
            image.logits.append([variant[place] for variant in logits])
            image.anomalies.append([counts[place] for _, counts in encoded])  # read later: a GPU is not waited for here

    def _axis_bands(self, image: _Image, queries: int) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
        """The tiles of an image: bands of rows and of columns, so that one tile of logits keeps to the budget."""
        height, width = image.size
        on_cpu, halo = self.device.type == "cpu", self._halo
        mib = self.config.tile_mib * (1 if on_cpu else GPU_TILES)
        budget = max(1, mib * 2**20 // (4 * queries))  # pixels of a tile; few queries need few tiles
        narrow = min(round(image.cols.side / BAND_PIXELS), -(-height * width // budget)) if on_cpu and not halo else 1
        columns = -(-width // max(1, narrow))
        rows = max(1, budget // min(columns, width), halo)
        whole, device = self.config.window == 0, self.device
        return (
            axis_bands(height, image.rows, whole, rows, halo, device),
            axis_bands(width, image.cols, whole, columns, 0, device),
        )

    @property
    def _halo(self) -> int:
        """Rows around a tile that its refinement reads."""
        return self.config.pamr_steps * max(self.config.pamr_dilations)

    def _tiles(self, image: _Image, scorer: QueryScorer, scale: float = 1.0, variant: int = 0) -> Iterator[Tile]:
        """A variant's logits at the original size, `scale` times the cosines, tile by tile from the top left."""
        windows = torch.stack([logits[variant] for logits in image.logits])
        laid_GGU = scale * lay_side_by_side(windows, image.rows, image.cols).permute(1, 2, 0)
        guide = self._guide(image) if self._halo else None
        for rows, cols in itertools.product(*self._axis_bands(image, laid_GGU.shape[-1])):
            block_ggU = laid_GGU[rows.grid][:, cols.grid].contiguous()
            down_RgU = (rows.operator @ block_ggU.flatten(1)).unflatten(1, block_ggU.shape[1:])
            logits_RWU = cols.operator @ down_RgU
            if guide is None:
                yield Tile(rows.pixels, cols.pixels, logits_RWU, cols.operator, down_RgU)
                continue
            refined_URW = refine(
                logits_RWU.permute(2, 0, 1).contiguous(),
                guide[:, rows.padded],
                self.config.pamr_steps,
                self.config.pamr_dilations,
            )
            first = rows.pixels.start - rows.padded.start
            inner_URW = refined_URW[:, first : first + rows.pixels.stop - rows.pixels.start]
            yield Tile(rows.pixels, cols.pixels, inner_URW.permute(1, 2, 0).contiguous())

    def _guide(self, image: _Image) -> Tensor:
        """The resized normalised picture brought bilinearly to the original size: (3, H, W)."""
        rows, cols = (
            whole_operator(*pair).to(self.device) for pair in zip(image.size, image.pixels.shape[1:], strict=True)
        )
        return rows @ image.pixels.float() @ cols.T

    def _finish(self, image: _Image, scorer: QueryScorer, variant: int = 0) -> Segmentation:
        """Label map and scores of an encoded image; a second pass over the tiles if the area filter drops classes."""
        scores, entropy = self._score(image, scorer, None, variant)
        dropped = scorer.small_categories(scores.best) if self.config.area_threshold else None
        if dropped is not None and bool(dropped.any()):
            scores, entropy = self._score(image, scorer, dropped, variant)
        anomalies = int(torch.stack([counts[variant] for counts in image.anomalies]).sum())
        maps = scorer.label_maps(scores)
        return Segmentation(*maps, entropy=entropy, anomaly_tokens=anomalies, windows=image.windows)

    def _score(
        self, image: _Image, scorer: QueryScorer, dropped: Tensor | None, variant: int
    ) -> tuple[PixelScores, float]:
        scores = PixelScores.empty(image.size, self.device)
        entropy, samples = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for tile in self._tiles(image, scorer, self.config.logit_scale, variant):
            log_total_RW = scorer.write_scores(tile, dropped, scores)
            every = tuple(slice(-side.start % ENTROPY_STEP, None, ENTROPY_STEP) for side in (tile.rows, tile.cols))
            sample_RWU = tile.logits[every]
            entropy += scorer.entropy(sample_RWU, log_total_RW[every]).double().sum()
            samples += sample_RWU[..., 0].numel()
        return scores, float(entropy) / samples
