"""`scclip bench model`: how fast one model labels, against open_clip itself and against a naive implementation.

    scclip bench model --model ViT-B-16 --random                 # pseudo-random weights, no download
    scclip bench model --model demo --parts naive

Three parts. `encode`: dense encode against open_clip's own `encode_image` on the same windows. `images`: whole image to
label map, images/s and every stage's share. `naive`: the same labels one window at a time. Imports PyTorch and
open_clip only, so that it runs on a GPU machine without Ray.
"""

import contextlib
import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from PIL import Image

from scclip.demo.scenes import scene
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.checkpoints import DTYPES, find_weights, load_clip, quiet, resolve_precision
from scclip.encoder.config import ModelConfig
from scclip.encoder.cuda import GraphedTower
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import UserError
from scclip.jobs.benchmarking.measuring import Times, alternate, peak_mib, ratio, report, synchronize
from scclip.jobs.cli.options import OptionParser
from scclip.reference import NaiveSegmenter
from scclip.segmentation.scoring import QueryScorer, Tile
from scclip.segmentation.segmenter import Segmenter
from scclip.segmentation.types import Segmentation, SegmenterConfig
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary

Part = Literal["encode", "images", "naive"]


@dataclass(frozen=True, kw_only=True)
class BenchModelOptions:
    """What is measured."""

    parts: tuple[Part, ...] = ("encode", "images", "naive")
    """encode, images, naive."""
    random: bool = False
    """Draw the weights instead of loading them: any open_clip ViT without a download."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""
    batch: int = 24
    """Windows per forward pass of `encode`."""
    dtypes: tuple[Literal["float32", "bf16", "fp16"], ...] = ("float32", "bf16")
    """Arithmetic that `encode` is measured in."""
    sizes: tuple[str, ...] = ("640x480", "4000x3000")
    """Pictures of `images`, WIDTHxHEIGHT; `naive` takes the first."""
    queries: tuple[int, ...] = (21, 171, 1000)
    """Vocabulary sizes of `images`; `naive` takes 171, or the demo model's own vocabulary."""
    pictures: int = 4
    """Pictures labeled in one call: their windows share batches. One of those above four megapixels."""
    repeats: int = 5
    """Rounds; the median counts."""
    threads: int = 0
    """PyTorch's threads; 0 leaves its own choice."""

    def __post_init__(self) -> None:
        for name in ("batch", "pictures", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        for size in self.sizes:
            picture_side(size)


def picture_side(size: str) -> tuple[int, int]:
    """`640x480` → (480, 640); ValueError for anything else."""
    numbers = size.split("x")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise ValueError(f"sizes {size!r} is no WIDTHxHEIGHT, e.g. 640x480")
    return int(numbers[1]), int(numbers[0])


@dataclass(frozen=True)
class Subject:
    """The model under measurement."""

    name: str
    clip: Any
    calibration: CalibrationConfig
    config: SegmenterConfig
    precision: str
    device: str
    source: Any = None

    def tower(self, precision: str) -> SelfCalibratedCLIP:
        """The calibrated tower in an arithmetic of its own, as an actor builds it."""
        empty, arrays = SelfCalibratedCLIP(self.clip.visual, self.calibration).to_arrays()
        tower = SelfCalibratedCLIP.from_arrays(empty, arrays, DTYPES[precision], self.device)
        assert isinstance(tower, SelfCalibratedCLIP)
        return tower


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures, prints."""
    options, model = OptionParser("bench model", __doc__.split("\n\n")[0], [BenchModelOptions, ModelConfig]).parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    subject = load_subject(options, model)
    parts = {"encode": bench_encode, "images": bench_images, "naive": bench_naive}
    for part in options.parts:
        parts[part](subject, options)
    return 0


def load_subject(options: BenchModelOptions, model: ModelConfig) -> Subject:
    """The model with its weights, loaded or drawn."""
    cuda = torch.cuda.is_available() if options.device == "auto" else options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no GPU that PyTorch can use; choose cpu")
    device, precision = "cuda" if cuda else "cpu", resolve_precision(model.precision, cuda)
    config = SegmenterConfig(window_batch=64 if cuda else SegmenterConfig().window_batch)
    if options.random:
        clip = drawn_clip(model.model)
        calibration = CalibrationConfig.published(len(clip.visual.transformer.resblocks))
        return Subject(model.model, clip, calibration, config, precision, device)
    source = find_weights(model)
    loaded = load_clip(source)
    windows: dict[str, Any] = dict(source.windows())
    config = replace(config, **windows, mean=loaded.mean, std=loaded.std)
    calibration = loaded.visual().calibration
    return Subject(model.model, loaded.model, calibration, config, precision, device, loaded)


def drawn_clip(name: str, seed: int = 11) -> Any:
    """An open_clip architecture with pseudo-random weights whose patches differ from each other as a photograph's do.

    open_clip's own initialisation gives residual branches so weak that all patches end up alike.
    """
    if name not in open_clip.list_models():
        raise UserError(f"--model {name} is unknown to open_clip; with --random give a ViT such as ViT-B-16")
    with quiet():
        model = open_clip.create_model(name, pretrained=None).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter_name, tensor in model.visual.named_parameters():
        drawn = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            norm = ".ln_" in f".{parameter_name}" and parameter_name.endswith("weight")
            drawn = 1 + 0.1 * drawn if norm else 0.05 * drawn
        elif parameter_name == "positional_embedding":
            drawn = 0.3 * drawn
        elif parameter_name == "proj":
            drawn = drawn / tensor.shape[0] ** 0.5
        else:
            drawn = (2.0 if parameter_name == "conv1.weight" else 0.7) * drawn / tensor[0].numel() ** 0.5
        tensor.copy_(drawn)
    return model


def drawn_text(queries: int, width: int) -> torch.Tensor:
    """(Q, E) unit vectors."""
    drawn = torch.randn(queries, width, generator=torch.Generator().manual_seed(queries))
    return torch.nn.functional.normalize(drawn, dim=-1)


def pictures(count: int, side: tuple[int, int]) -> list[np.ndarray]:
    """Drawn scenes of a size; large ones are small ones enlarged."""
    height, width = side
    factor = max(1.0, (height * width / 640 / 480) ** 0.5)
    small = max(16, round(height / factor)), max(16, round(width / factor))
    drawn = [Image.fromarray(scene(seed, *small)[0]) for seed in range(count)]
    return [np.array(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in drawn]


def bench_encode(subject: Subject, options: BenchModelOptions) -> None:
    """(a) Dense encode as actors do it (on a GPU one graph) against open_clip's `encode_image`: same windows, dtype."""
    side = subject.clip.visual.image_size
    windows = torch.randn(options.batch, 3, *side, generator=torch.Generator().manual_seed(0)).to(subject.device)
    rows: list[list[Any]] = [["encode", "dtype", "windows/s", "median s", "spread s", "ratio", "CPU ratio", "TFLOP/s"]]
    figures: dict[str, Any] = {}
    for precision in options.dtypes:
        dtype, tower = DTYPES[precision], subject.tower(precision)
        forward = GraphedTower(tower, (tower.calibration,), side[0])
        plain = copy.deepcopy(subject.clip).to(subject.device, dtype)
        pixels = windows.to(dtype)

        def encode_image(plain: Any = plain, pixels: torch.Tensor = pixels) -> Any:
            with torch.inference_mode():
                return plain.encode_image(pixels)

        def dense(forward: GraphedTower = forward, pixels: torch.Tensor = pixels) -> Any:
            return forward(pixels)

        times = alternate({"plain": encode_image, "dense": dense}, options.repeats, subject.device)
        found, limit = ratio(times["plain"], times["dense"]), matmul_rate(dtype, subject.device)
        figures[precision] = {name: time.summary(options.batch) for name, time in times.items()}
        rate = arithmetic(tower, side) * options.batch / figures[precision]["dense"]["median_s"]
        figures[precision] |= {"ratio": found, "flop_per_s": round(rate), "matmul_flop_per_s": round(limit)}
        figures[precision]["fraction_of_matmul"] = round(rate / limit, 3)
        for name, shown in (("plain", ["", ""]), ("dense", [found["wall"], found["cpu"]])):
            entry = figures[precision][name]
            spread = f"{entry['min_s']:.3f}–{entry['max_s']:.3f}"
            flops = f"{rate / 1e12:.3f} of {limit / 1e12:.3f}" if name == "dense" else ""
            rows.append([name, precision, entry["per_second"], entry["median_s"], spread, *shown, flops])
    report("model.encode", described(subject, options), {"figures": figures}, rows, subject.device)


def arithmetic(tower: SelfCalibratedCLIP, side: tuple[int, int]) -> float:
    """Floating-point operations of plain CLIP on one window, two a multiply-add: the work a dense encode stands for."""
    visual, (gh, gw) = tower.visual, tower.grid(*side)
    tokens, width = gh * gw + 1, visual.conv1.out_channels
    hidden = visual.transformer.resblocks[0].mlp[0].out_features
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width
    patches = gh * gw * width * visual.conv1.weight[0].numel()
    return 2.0 * (len(visual.transformer.resblocks) * block + patches)


def matmul_rate(dtype: torch.dtype, device: str, repeats: int = 5) -> float:
    """Operations a second of one large matrix product, the limit of what this machine does."""
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = alternate({"product": lambda: a @ b}, repeats, device)["product"]
    return 2.0 * size**3 / min(times.wall)


class StageClock:
    """Seconds by stage, a stage's time without that of the stages inside it."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self.open = device, defaultdict[str, float](float), list[float]()

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            with self.running(stage):
                return function(*args, **options)

        return timed

    def running(self, stage: str) -> "Stage":
        return Stage(self, stage)

    def shares(self) -> dict[str, float]:
        """Each stage's share of all seconds."""
        total = sum(self.seconds.values())
        return {stage: round(seconds / total, 4) for stage, seconds in self.seconds.items()}


class Stage:
    """One run of a stage; on a GPU its queue is emptied before and after."""

    def __init__(self, clock: StageClock, name: str) -> None:
        self.clock, self.name = clock, name

    def __enter__(self) -> None:
        synchronize(self.clock.device)
        self.clock.open.append(0.0)
        self.began = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        synchronize(self.clock.device)
        elapsed, inner = time.perf_counter() - self.began, self.clock.open.pop()
        self.clock.seconds[self.name] += elapsed - inner
        if self.clock.open:
            self.clock.open[-1] += elapsed


class TimedSegmenter(Segmenter):
    """A `Segmenter` whose stages are timed: resize, encode, cosines, stitch, score, maps, and the rest."""

    def __init__(self, *args: Any, clock: StageClock) -> None:
        super().__init__(*args)
        self.clock = clock
        self._load = clock.wrap("resize", self._load)  # type: ignore[method-assign]
        self._forward = clock.wrap("encode", self._forward)  # type: ignore[assignment]

    def segment(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Segmentation]:
        with self.clock.running("other"):
            return super().segment(images, sizes)

    def _scorer(self, text_features: torch.Tensor, query_category: Sequence[int]) -> QueryScorer:
        scorer = super()._scorer(text_features, query_category)
        for stage, name in (("cosines", "cosines"), ("score", "write_scores"), ("maps", "label_maps")):
            setattr(scorer, name, self.clock.wrap(stage, getattr(scorer, name)))
        return scorer

    def _tiles(self, image: Any, scorer: QueryScorer, scale: float = 1.0, variant: int = 0) -> Iterator[Tile]:
        tiles = super()._tiles(image, scorer, scale, variant)
        while True:
            with self.clock.running("stitch"):
                tile = next(tiles, None)
            if tile is None:
                return
            yield tile


def bench_images(subject: Subject, options: BenchModelOptions) -> None:
    """(b) Whole image to label map: images/s and the stages' shares."""
    rows: list[list[Any]] = [["size", "queries", "images/s", "s/image", "spread s", "peak MiB", "shares"]]
    figures = []
    for size in options.sizes:
        side = picture_side(size)
        count = options.pictures if side[0] * side[1] <= 4_000_000 else 1
        images = pictures(count, side)
        for queries in options.queries:
            text, clock = drawn_text(queries, subject.clip.visual.output_dim), StageClock(subject.device)
            segmenter = Segmenter(subject.tower(subject.precision), text, range(1, queries + 1), subject.config)
            arguments = segmenter.model, text, range(1, queries + 1), subject.config
            times = measure_images(segmenter, images, options.repeats, subject.device)
            with one_thread():  # so one lane: the stages of two would be mixed
                staged = TimedSegmenter(*arguments, clock=clock)
                if subject.device == "cuda":  # what is done once, such as recording the graph, is no stage's
                    staged.segment(images[:1])
                    clock.seconds.clear()
                staged.segment(images)
            summary = times.summary(count)
            entry = {"size": size, "queries": queries, "images": count, **summary, "shares": clock.shares()}
            figures.append(entry | {"peak_mib": peak_mib(), "gpu_peak_mib": gpu_peak_mib(subject.device)})
            spread = f"{summary['min_s'] / count:.3f}–{summary['max_s'] / count:.3f}"
            seconds = f"{summary['median_s'] / count:.3f}"
            shares = ", ".join(f"{stage} {share:.0%}" for stage, share in clock.shares().items())
            rows.append([size, queries, summary["per_second"], seconds, spread, peak_mib(), shares])
    report("model.images", described(subject, options), {"figures": figures}, rows, subject.device)


def gpu_peak_mib(device: str) -> int:
    """The most memory this process has held on the GPU, MiB; 0 without one."""
    return torch.cuda.max_memory_reserved() // 2**20 if device == "cuda" else 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure_images(segmenter: Segmenter, images: list[np.ndarray], repeats: int, device: str) -> Times:
    """Times of labeling these pictures in one call."""
    return alternate({"segment": lambda: segmenter.segment(images)}, repeats, device)["segment"]


def bench_naive(subject: Subject, options: BenchModelOptions) -> None:
    """(c) Against the naive implementation: speed, and the share of pixels with the same category."""
    images = pictures(options.pictures, picture_side(options.sizes[0]))
    text, categories, scale = naive_vocabulary(subject)
    config = replace(subject.config, logit_scale=scale)
    segmenter = Segmenter(subject.tower(subject.precision), text, categories, config)
    visual = copy.deepcopy(subject.clip.visual).to(subject.device)
    naive = NaiveSegmenter(visual, subject.calibration, text, categories, config)

    def slowly() -> list[np.ndarray]:
        return [naive.label(image)[0] for image in images]

    times = alternate({"naive": slowly, "ours": lambda: segmenter.segment(images)}, options.repeats, subject.device)
    pairs = zip(slowly(), segmenter.segment(images), strict=True)
    agreement = float(np.mean([(labels == result.argmax).mean() for labels, result in pairs]))
    summaries, found = {name: time.summary(len(images)) for name, time in times.items()}, ratio(*times.values())
    figures = {"figures": summaries, "ratio": found, "agreement": round(agreement, 5), "queries": len(text)}
    rows: list[list[Any]] = [["", "images/s", "s/image", "CPU s/image", "ratio", "CPU ratio", "agreement"]]
    for name, precision, shown in (
        ("naive", "float32", ["", "", ""]),
        ("ours", subject.precision, [found["wall"], found["cpu"], f"{agreement:.2%}"]),
    ):
        each = [round(summaries[name][key] / len(images), 3) for key in ("median_s", "cpu_s")]
        rows.append([f"{name} {precision}", summaries[name]["per_second"], *each, *shown])
    report("model.naive", described(subject, options), figures, rows, subject.device)


def naive_vocabulary(subject: Subject) -> tuple[Any, Sequence[int], float]:
    """171 drawn queries, or the demo model's own vocabulary: text features, categories, logit scale."""
    if subject.source is None or subject.name != "demo":
        return drawn_text(171, subject.clip.visual.output_dim), range(1, 172), subject.config.logit_scale
    vocabulary = Vocabulary.load("demo")
    features = encode_queries(subject.clip, subject.source.tokenizer, vocabulary)
    return features, vocabulary.query_category, vocabulary.logit_scale


def described(subject: Subject, options: BenchModelOptions) -> dict[str, Any]:
    """Model and options for the JSON line."""
    names = ("batch", "pictures", "repeats", "sizes", "queries")
    facts = {"model": subject.name, "weights": "loaded" if subject.source else "drawn", "precision": subject.precision}
    config = {name: getattr(subject.config, name) for name in ("window", "stride", "short_side", "window_batch")}
    return facts | {"device": subject.device} | config | {name: getattr(options, name) for name in names}
