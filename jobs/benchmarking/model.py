"""`scclip bench model`: how fast one model labels, against open_clip itself and against a naive implementation.

    scclip bench model --model ViT-B-16 --random                 # pseudo-random weights, no download
    scclip bench model --model demo --parts naive

Three parts. `encode`: calibrated patch features against open_clip's own `encode_image`, on the same windows. `images`:
images per second from image to label map, and the share of each stage. `naive`: the same labels by the implementation
that takes one window at a time. It imports PyTorch and open_clip only, so that it runs on a GPU machine without Ray.
"""

import contextlib
import copy
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from PIL import Image

from scclip.demo.scenes import scene
from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.checkpoints import LoadedCLIP, find_weights, load_clip, quiet, resolve_precision
from scclip.encoder.config import ModelConfig
from scclip.encoder.cuda import GraphedTower
from scclip.encoder.tower import DTYPES, SelfCalibratedCLIP
from scclip.errors import UserError
from scclip.jobs.benchmarking.measuring import alternate, memory_mib, ratio, report, synchronize, timed
from scclip.jobs.cli.options import OptionParser
from scclip.reference import NaiveSegmenter
from scclip.segmentation.segmenter import WindowSegmenter
from scclip.segmentation.types import CLIP_MEAN, CLIP_STD, Segmentation, SegmenterConfig
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary

COMMON = 6  # strongest directions of drawn features that are taken out: in them all patches are alike


@dataclass(frozen=True, kw_only=True)
class BenchModelOptions:
    """What is measured."""

    parts: tuple[Literal["encode", "images", "naive"], ...] = ("encode", "images", "naive")
    """Measurements to run: encode, images, naive."""
    random: bool = False
    """Use pseudo-random weights instead of trained ones: works for any open_clip ViT, without a download."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to measure on; auto takes the GPU where there is one."""
    batch: int = 0
    """Windows per forward pass in `encode`; 0: 24 on a CPU, 64 on a GPU."""
    dtypes: tuple[Literal["float32", "bf16", "fp16"], ...] = ("float32", "bf16")
    """Arithmetic types to measure in `encode`."""
    sizes: tuple[str, ...] = ("640x480", "4000x3000")
    """Image sizes in `images`, WIDTHxHEIGHT; `naive` takes the first."""
    queries: tuple[int, ...] = (21, 171, 1000)
    """Numbers of queries in `images`; `naive` takes 171, or the demo model's own vocabulary."""
    pictures: int = 0
    """Images labeled in one call, whose windows share batches; 0: 4 on a CPU, 32 on a GPU, which they fill. Above four
    megapixels one on a CPU, at most 10 on a GPU."""
    repeats: int = 5
    """Rounds of each measurement; the median is reported."""
    threads: int = 0
    """Threads of PyTorch; 0 leaves PyTorch's own choice."""

    def __post_init__(self) -> None:
        for name, least in (("batch", 0), ("pictures", 0), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")
        for size in self.sizes:
            picture_side(size)

    def filled(self, cuda: bool) -> "BenchModelOptions":
        """The options with numbers in the place of 0: on a GPU three whole batches at 640 × 480."""
        batch, pictures = (64, 32) if cuda else (24, 4)
        return replace(self, batch=self.batch or batch, pictures=self.pictures or pictures)

    def images(self, side: tuple[int, int], cuda: bool) -> int:
        """How many images of this height and width are labeled in one call."""
        most = 10 if cuda else 1
        return self.pictures if side[0] * side[1] <= 4_000_000 else min(self.pictures, most)


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
    """The open_clip model, both towers in float32 on the CPU."""
    calibration: CalibrationConfig
    config: SegmenterConfig
    precision: str
    """Arithmetic of the tower: float32, bf16 or fp16."""
    device: str
    """`cpu` or `cuda`."""
    loaded: LoadedCLIP | None = None
    """The model with its tokenizer; None where the weights are pseudo-random."""

    def tower(self, precision: str) -> SelfCalibratedCLIP:
        """A copy of the calibrated tower in another precision, built as an actor builds it."""
        empty, arrays = SelfCalibratedCLIP(self.clip.visual, self.calibration).to_arrays()
        return SelfCalibratedCLIP.from_arrays(empty, arrays, DTYPES[precision], self.device)


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures, prints."""
    options, model = OptionParser("bench model", __doc__.split("\n\n")[0], [BenchModelOptions, ModelConfig]).parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    subject = load_subject(options, model)
    options = options.filled(subject.device == "cuda")
    parts = {"encode": bench_encode, "images": bench_images, "naive": bench_naive}
    for part in options.parts:
        parts[part](subject, options)
    return 0


def load_subject(options: BenchModelOptions, model: ModelConfig) -> Subject:
    """The model with trained or pseudo-random weights, as the options ask for."""
    cuda = torch.cuda.is_available() if options.device == "auto" else options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no GPU that PyTorch can use; choose cpu")
    device, precision = "cuda" if cuda else "cpu", resolve_precision(model.precision, cuda)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as in an actor
    config = SegmenterConfig(window_batch=64 if cuda else SegmenterConfig().window_batch)
    if options.random:
        clip = drawn_clip(model.model)
        calibration = CalibrationConfig.published(len(clip.visual.transformer.resblocks))
        return Subject(model.model, clip, calibration, config, precision, device)
    source = find_weights(model)
    loaded = load_clip(source)
    config = replace(config, **source.windows(), mean=loaded.mean, std=loaded.std)
    return Subject(model.model, loaded.model, loaded.visual().calibration, config, precision, device, loaded)


def drawn_clip(name: str, seed: int = 11) -> Any:
    """An open_clip model with pseudo-random weights whose label maps are about as busy as those of photographs.

    The residual branches of open_clip's own initialisation are so weak that all patches end up alike. With stronger
    ones their features share a few strong directions, and few classes can win: the projection takes these out.
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
    if model.visual.proj is not None:
        take_out_common(model.visual)
    return model


def take_out_common(visual: Any) -> None:
    """Changes the projection (D, E) of a drawn tower so that features of scenes have no strongest directions."""
    pixels = torch.from_numpy(np.stack(pictures(6, visual.image_size))).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    tower = SelfCalibratedCLIP(visual, CalibrationConfig.published(len(visual.transformer.resblocks)))
    features = tower.encode_patches((pixels - mean) / std).flatten(0, 1)
    unit = torch.nn.functional.normalize(features, dim=-1)
    directions = torch.linalg.eigh(unit.T @ unit)[1][:, -COMMON:]
    visual.proj.copy_(visual.proj - visual.proj @ directions @ directions.T)


def drawn_text(queries: int, width: int) -> torch.Tensor:
    """Pseudo-random text features: (Q, E) float32 of unit norm."""
    drawn = torch.randn(queries, width, generator=torch.Generator().manual_seed(queries))
    return torch.nn.functional.normalize(drawn, dim=-1)


def pictures(count: int, side: tuple[int, int]) -> list[np.ndarray]:
    """Drawn scenes, uint8 RGB (H, W, 3) with `side` = (H, W); above 640 × 480 they are enlarged."""
    height, width = side
    factor = max(1.0, (height * width / 640 / 480) ** 0.5)
    small = max(16, round(height / factor)), max(16, round(width / factor))
    drawn = [Image.fromarray(scene(seed, *small)[0]) for seed in range(count)]
    return [np.array(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in drawn]


def bench_encode(subject: Subject, options: BenchModelOptions) -> None:
    """Calibrated patch features as actors compute them against open_clip's `encode_image`: same windows, same dtype."""
    side = subject.clip.visual.image_size
    windows = torch.randn(options.batch, 3, *side, generator=torch.Generator().manual_seed(0)).to(subject.device)
    rows: list[list[Any]] = [["encode", "dtype", "windows/s", "median s", "spread s", "ratio", "CPU ratio", "TFLOP/s"]]
    figures = {}
    for precision in options.dtypes:
        dtype, tower = DTYPES[precision], subject.tower(precision)
        plain = copy.deepcopy(subject.clip).to(subject.device, dtype)
        pixels = windows.to(dtype)
        functions = {
            "plain": partial(torch.inference_mode()(plain.encode_image), pixels),
            "dense": partial(GraphedTower(tower, (tower.calibration,), side[0]), pixels),
        }
        times = alternate(functions, options.repeats, subject.device)
        speedup, limit = ratio(times["plain"], times["dense"]), matmul_rate(dtype, subject.device)
        summaries = {name: time.summary(options.batch) for name, time in times.items()}
        rate = arithmetic(tower, side) * options.batch / summaries["dense"]["median_s"]
        rates = {"flop_per_s": round(rate), "matmul_flop_per_s": round(limit)}
        figures[precision] = {**summaries, "ratio": speedup, **rates, "fraction_of_matmul": round(rate / limit, 3)}
        of_limit = f"{rate / 1e12:.3f} of {limit / 1e12:.3f}"
        for name, cells in (("plain", ["", "", ""]), ("dense", [speedup["wall"], speedup["cpu"], of_limit])):
            entry = summaries[name]
            spread = f"{entry['min_s']:.3f}–{entry['max_s']:.3f}"
            rows.append([name, precision, entry["per_second"], entry["median_s"], spread, *cells])
    report("model.encode", summary(subject, options), {"figures": figures}, rows, subject.device)


def arithmetic(tower: SelfCalibratedCLIP, side: tuple[int, int]) -> float:
    """Floating-point operations of plain CLIP on one window of `side` pixels; a multiply-add counts as two."""
    visual, (gh, gw) = tower.visual, tower.grid(*side)
    tokens, width = gh * gw + 1, len(visual.conv1.weight)
    hidden = visual.transformer.resblocks[0].mlp[0].out_features
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width
    patches = gh * gw * width * visual.conv1.weight[0].numel()
    return 2.0 * (len(visual.transformer.resblocks) * block + patches)


def matmul_rate(dtype: torch.dtype, device: str, repeats: int = 5) -> float:
    """Floating-point operations per second of one large matrix product: the most that this machine reaches."""
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = alternate({"product": lambda: a @ b}, repeats, device)["product"]
    return 2.0 * size**3 / min(times.wall)


def bench_images(subject: Subject, options: BenchModelOptions) -> None:
    """From image to label map: images per second and the share of each stage."""
    rows: list[list[Any]] = [["size", "queries", "images/s", "s/image", "spread s", "peak MiB", "fill", "shares"]]
    figures = []
    for size in options.sizes:
        side = picture_side(size)
        count = options.images(side, subject.device == "cuda")
        images = pictures(count, side)
        for queries in options.queries:
            text = drawn_text(queries, subject.clip.visual.output_dim)
            segmenter = WindowSegmenter(subject.tower(subject.precision), text, range(1, queries + 1), subject.config)
            times = alternate({"segment": partial(segmenter.segment, images)}, options.repeats, subject.device)
            seconds, (shares, fill) = times["segment"].summary(count), stage_shares(segmenter, images, subject.device)
            entry = {"size": size, "queries": queries, "images": count, **seconds, "shares": shares, "fill": fill}
            peak = memory_mib("VmHWM")
            gpu_peak = torch.cuda.max_memory_reserved() // 2**20 if subject.device == "cuda" else 0
            figures.append(entry | {"peak_mib": peak, "gpu_peak_mib": gpu_peak})
            low, median, high = (f"{seconds[name] / count:.3f}" for name in ("min_s", "median_s", "max_s"))
            shown = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
            rows.append([size, queries, seconds["per_second"], median, f"{low}–{high}", peak, f"{fill:.0%}", shown])
    report("model.images", summary(subject, options), {"figures": figures}, rows, subject.device)


def stage_shares(
    segmenter: WindowSegmenter, images: Sequence[np.ndarray], device: str
) -> tuple[dict[str, float], float]:
    """Labels these images once, on one thread: stages of two would be mixed.

    Returns:
        The share of each stage in the time; the share of the tower's batches that windows filled: the rest is padding.
    """
    threads, spent, entered = torch.get_num_threads(), defaultdict[str, float](float), Counter[str]()
    results: list[Segmentation] = []

    @contextlib.contextmanager
    def clock(stage: str) -> Iterator[None]:
        synchronize(device)
        began = time.perf_counter()
        yield
        synchronize(device)
        spent[stage] += time.perf_counter() - began
        entered[stage] += 1

    segmenter.stage = clock
    torch.set_num_threads(1)
    total, _ = timed(lambda: results.extend(segmenter.segment(images)), device)
    torch.set_num_threads(threads)
    spent["other"] = total - sum(spent.values())
    fill = sum(result.windows for result in results) / (entered["encode"] * segmenter.config.window_batch)
    return {stage: round(seconds / total, 4) for stage, seconds in spent.items()}, round(fill, 4)


def bench_naive(subject: Subject, options: BenchModelOptions) -> None:
    """The product against the naive implementation: speed, and the share of pixels with the same category."""
    images = pictures(options.pictures, picture_side(options.sizes[0]))
    text, categories, scale = naive_vocabulary(subject)
    config = replace(subject.config, logit_scale=scale)
    segmenter = WindowSegmenter(subject.tower(subject.precision), text, categories, config)
    visual = copy.deepcopy(subject.clip.visual).to(subject.device)
    naive = NaiveSegmenter(visual, subject.calibration, text, categories, config)

    def label_naively() -> list[np.ndarray]:
        return [naive.label(image)[0] for image in images]

    functions: dict[str, Callable[[], object]] = {"naive": label_naively, "ours": partial(segmenter.segment, images)}
    times = alternate(functions, options.repeats, subject.device)
    pairs = zip(label_naively(), segmenter.segment(images), strict=True)
    agreement = float(np.mean([(labels == result.argmax).mean() for labels, result in pairs]))
    summaries, speedup = {name: time.summary(len(images)) for name, time in times.items()}, ratio(*times.values())
    figures = {"figures": summaries, "ratio": speedup, "agreement": round(agreement, 5), "queries": len(text)}
    rows: list[list[Any]] = [["", "images/s", "s/image", "CPU s/image", "ratio", "CPU ratio", "agreement"]]
    for name, precision, cells in (
        ("naive", "float32", ["", "", ""]),
        ("ours", subject.precision, [speedup["wall"], speedup["cpu"], f"{agreement:.2%}"]),
    ):
        each = [round(summaries[name][key] / len(images), 3) for key in ("median_s", "cpu_s")]
        rows.append([f"{name} {precision}", summaries[name]["per_second"], *each, *cells])
    report("model.naive", summary(subject, options), figures, rows, subject.device)


def naive_vocabulary(subject: Subject) -> tuple[np.ndarray | torch.Tensor, Sequence[int], float]:
    """Text features, categories and logit scale: the demo model's own vocabulary, else 171 pseudo-random queries."""
    if subject.loaded is None or subject.name != "demo":
        return drawn_text(171, subject.clip.visual.output_dim), range(1, 172), subject.config.logit_scale
    vocabulary = Vocabulary.load("demo")
    features = encode_queries(subject.clip, subject.loaded.tokenizer, vocabulary)
    return features, vocabulary.query_category, vocabulary.logit_scale


def summary(subject: Subject, options: BenchModelOptions) -> dict[str, object]:
    """The model and the options, for the line of JSON."""
    names = ("batch", "pictures", "repeats", "sizes", "queries")
    facts = {"model": subject.name, "weights": "loaded" if subject.loaded else "drawn", "precision": subject.precision}
    config = {name: getattr(subject.config, name) for name in ("window", "stride", "short_side", "window_batch")}
    return facts | {"device": subject.device} | config | {name: getattr(options, name) for name in names}
