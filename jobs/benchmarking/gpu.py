"""`scclip bench gpu`: what one GPU can do at most, and what each step of labeling makes of it.

    scclip bench gpu --model ViT-B-16 --random                     # pseudo-random weights, no download
    scclip bench gpu --model ViT-L-14 --random --parts tower images

Six parts. `ceilings`: large products and copies. `tower`: a forward pass by windows a batch, as a CUDA graph and step
by step, and its share of the product's rate. `scoring`: the GPU's time for each stage by number of queries. `images`:
images per second of `WindowSegmenter.segment` by calls at a time. `profile`: how long the GPU is busy with an image,
how often it is waited for, which kernels it runs. `actor`: images per second of the labeling actor, from decoded chunk
to labeled chunk, without Ray.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from scclip.encoder.config import ModelConfig
from scclip.encoder.cuda import GraphedTower
from scclip.encoder.tower import DTYPES, SelfCalibratedCLIP
from scclip.errors import UserError
from scclip.jobs.benchmarking.measuring import Rows, alternate, report, timed
from scclip.jobs.benchmarking.model import BenchModelOptions as ModelOptions
from scclip.jobs.benchmarking.model import (
    Subject,
    arithmetic,
    drawn_text,
    load_subject,
    matmul_rate,
    naive_vocabulary,
    picture_side,
    pictures,
)
from scclip.jobs.cli.options import OptionParser
from scclip.pipeline.annotations.schemas import Status, table_of
from scclip.pipeline.inputs.chunks import Chunk
from scclip.pipeline.inputs.decoding import DECODED_SCHEMA, DecodedImage
from scclip.pipeline.labeling.labeler import Labeler
from scclip.segmentation.segmenter import WindowSegmenter

PRODUCTS = ("fp16", "bf16", "float32")
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")  # of which the second is the uploads' and seldom waits
KERNELS = 12  # with the most time, in the table of `profile`
Measured = tuple[dict[str, object], Rows]  # figures for the line of JSON, and the table


@dataclass(frozen=True, kw_only=True)
class BenchGpuOptions:
    """What is measured."""

    parts: tuple[Literal["ceilings", "tower", "scoring", "images", "profile", "actor"], ...] = (
        "ceilings", "tower", "scoring", "images", "profile", "actor",
    )  # fmt: skip
    """Measurements to run: ceilings, tower, scoring, images, profile, actor."""
    random: bool = False
    """Use pseudo-random weights instead of trained ones: works for any open_clip ViT, without a download."""
    size: str = "640x480"
    """Size of the images, WIDTHxHEIGHT; they are drawn scenes."""
    pictures: int = 64
    """Images in one call."""
    windows: tuple[int, ...] = (16, 64, 96, 128, 192)
    """Windows per forward pass in `tower`."""
    queries: tuple[int, ...] = (21, 171, 1000)
    """Numbers of queries in `scoring`; the other parts take 171, or the demo model's own vocabulary."""
    calls: tuple[int, ...] = (1, 2, 3)
    """Calls at a time in `images` and `actor`, each in a thread of its own."""
    repeats: int = 5
    """Rounds of each measurement; the median is reported."""

    def __post_init__(self) -> None:
        picture_side(self.size)
        for name in ("pictures", "windows", "queries", "calls", "repeats"):
            if np.min(getattr(self, name), initial=1) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")


@dataclass(frozen=True)
class Bench:
    """The model, and what is to be measured."""

    subject: Subject
    options: BenchGpuOptions

    @property
    def device(self) -> str:
        """The device's name for PyTorch."""
        return self.subject.device

    @cached_property
    def tower(self) -> SelfCalibratedCLIP:
        """The tower on the GPU, as an actor has it."""
        return self.subject.tower(self.subject.precision)

    @cached_property
    def images(self) -> list[np.ndarray]:
        """Eight drawn scenes, in turn."""
        scenes = pictures(min(8, self.options.pictures), picture_side(self.options.size))
        return [scenes[number % len(scenes)] for number in range(self.options.pictures)]

    @cached_property
    def segmenter(self) -> WindowSegmenter:
        """A segmenter with 171 queries, or the demo's own vocabulary."""
        text, categories, _ = naive_vocabulary(self.subject)
        return WindowSegmenter(self.tower, text, categories, self.subject.config)

    @cached_property
    def limit(self) -> float:
        """Floating-point operations per second of one large product in the tower's arithmetic."""
        return matmul_rate(self.tower.dtype, self.device)

    def seconds(self, function: Callable[[], object]) -> float:
        """Median seconds of a call, the GPU idle before and after."""
        return alternate({"": function}, self.options.repeats, self.device)[""].summary()["median_s"]

    def rates(self, function: Callable[[], object]) -> dict[int, float]:
        """Calls at a time → images per second of a function that handles all images."""
        rates = {}
        for calls in self.options.calls:
            with ThreadPoolExecutor(calls) as threads:  # the same ones in every round: each has a stream of its own
                seconds = self.seconds(partial(side_by_side, threads, function, calls))
            rates[calls] = round(calls * len(self.images) / seconds, 1)
        return rates


def main(argv: Sequence[str]) -> int:
    """Parses the options, measures, prints."""
    options, model = OptionParser("bench gpu", __doc__.split("\n\n")[0], [BenchGpuOptions, ModelConfig]).parse(argv)
    if not torch.cuda.is_available():
        raise UserError("this machine has no GPU that PyTorch can use; measure its CPU by scclip bench model")
    bench = Bench(load_subject(ModelOptions(random=options.random, device="cuda"), model), options)
    for part in options.parts:
        figures, rows = PARTS[part](bench)
        report(f"gpu.{part}", summary(bench), figures, rows, bench.device)
    return 0


def ceilings(bench: Bench) -> Measured:
    """What no program does faster here: one large product, copies on the GPU, and copies to and from pinned memory."""
    rates = {f"{name}_tflop_per_s": matmul_rate(DTYPES[name], bench.device) / 1e12 for name in PRODUCTS}
    source = torch.zeros(1 << 30, dtype=torch.uint8, device=bench.device)
    host = torch.zeros(1 << 26, dtype=torch.uint8, pin_memory=bench.device == "cuda")
    part = source[: len(host)]
    copies = {"copy": (torch.empty_like(source), source), "upload": (part, host), "download": (host, part)}
    for name, (target, origin) in copies.items():
        passes = 2 if name == "copy" else 1  # it reads and writes the same memory
        seconds = bench.seconds(partial(target.copy_, origin, non_blocking=True))
        rates[f"{name}_gb_per_s"] = passes * len(origin) / seconds / 1e9
    figures: dict[str, object] = {name: round(rate, 2) for name, rate in rates.items()}
    return figures, [["ceiling", ""], *([name.replace("_per_s", "/s"), rate] for name, rate in figures.items())]


def tower(bench: Bench) -> Measured:
    """A forward pass by windows a batch; the rate counts plain CLIP's products, not those of the calibration."""
    side, model, repeats = bench.subject.clip.visual.image_size, bench.tower, bench.options.repeats
    rows: list[list[object]] = [["windows", "graph ms", "step by step ms", "windows/s", "TFLOP/s", "of the product's"]]
    figures: list[dict[str, object]] = []
    for windows in bench.options.windows:
        pixels = torch.randn(windows, 3, *side, device=bench.device).to(model.dtype)
        graph = GraphedTower(model, (model.calibration,), side[0])
        functions = {"graph": partial(graph, pixels), "steps": partial(model.encode_variants, pixels, graph.variants)}
        median = {
            name: time.summary()["median_s"] for name, time in alternate(functions, repeats, bench.device).items()
        }
        rate = windows * arithmetic(model, side) / median["graph"]
        milliseconds = {f"{name}_ms": round(1000 * seconds, 3) for name, seconds in median.items()}
        speed = {"windows_per_s": round(windows / median["graph"]), "tflop_per_s": round(rate / 1e12, 1)}
        share = round(rate / bench.limit, 3)
        figures.append({"windows": windows, **milliseconds, **speed, "of_limit": share, "graphed": graph.graphs})
        rows.append([windows, *milliseconds.values(), *speed.values(), share])
    return {"matmul_flop_per_s": round(bench.limit), "figures": figures}, rows


def scoring(bench: Bench) -> Measured:
    """The GPU's milliseconds an image in each stage, by number of queries."""
    rows: list[list[object]] = [["queries", "stage", "GPU ms/image"]]
    figures: list[dict[str, object]] = []
    for queries in bench.options.queries:
        text = drawn_text(queries, bench.subject.clip.visual.output_dim)
        segmenter = WindowSegmenter(bench.tower, text, range(1, queries + 1), bench.subject.config)
        segmenter.segment(bench.images)
        stages = stage_milliseconds(segmenter, bench.images)
        figures.append({"queries": queries, "stages_ms": stages})
        rows += [[queries, stage, milliseconds] for stage, milliseconds in stages.items()]
    return {"figures": figures}, rows


def stage_milliseconds(segmenter: WindowSegmenter, images: Sequence[np.ndarray]) -> dict[str, float]:
    """The GPU's milliseconds an image from the beginning to the end of each stage; nothing is waited for between."""
    spans = defaultdict[str, list[tuple[Any, Any]]](list)

    @contextlib.contextmanager
    def clock(stage: str) -> Iterator[None]:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        yield
        ended.record()
        spans[stage].append((began, ended))

    segmenter.stage = clock
    segmenter.segment(images)
    torch.cuda.synchronize()
    sums = {stage: sum(began.elapsed_time(ended) for began, ended in pairs) for stage, pairs in spans.items()}
    return {stage: round(milliseconds / len(images), 4) for stage, milliseconds in sums.items()}


def whole_images(bench: Bench) -> Measured:
    """Images per second from image to label map, and the share of what the tower's products alone would allow."""
    rates = bench.rates(partial(bench.segmenter.segment, bench.images))
    windows = sum(result.windows for result in bench.segmenter.segment(bench.images)) / len(bench.images)
    config = bench.subject.config
    most = bench.limit / (windows * arithmetic(bench.tower, (config.window, config.window)))
    shares = {calls: round(rate / most, 3) for calls, rate in rates.items()}
    rows: list[list[object]] = [["calls at a time", "images/s", "of the arithmetic limit"]]
    rows += [[calls, rate, shares[calls]] for calls, rate in rates.items()]
    own = {"own_kernels": bench.segmenter._fused is not None, "windows_per_image": windows}
    return {"images_per_s": rates, "limit_images_per_s": round(most, 1), "of_limit": shares, **own}, rows


def profiled(bench: Bench) -> Measured:
    """GPU time, launches and waits of an image; the busy share is of the time that it takes without the profiler."""
    images, segment = bench.images, partial(bench.segmenter.segment, bench.images)
    seconds = bench.seconds(segment)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        timed(segment, bench.device)
    spent, launches, waits, spans = Counter[str](), Counter[str](), Counter[str](), list[tuple[float, float]]()
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spans.append((event.time_range.start, event.time_range.end))
            spent[event.name] += event.time_range.elapsed_us()
            launches[event.name] += 1
        elif event.name in WAITS:
            waits[event.name] += 1
    busy = covered(spans) / 1000 / len(images)
    figures: dict[str, object] = {
        "ms_per_image": round(1000 * seconds / len(images), 4),
        "gpu_busy_ms_per_image": round(busy, 4),
        "gpu_busy": round(busy * len(images) / 1000 / seconds, 3),
        "launches_per_image": round(launches.total() / len(images), 1),
        "waits_per_image": {name: round(waits[name] / len(images), 3) for name in WAITS},
    }
    kernels = [[name[:100], round(us / len(images), 2), launches[name]] for name, us in spent.most_common(KERNELS)]
    rows: Rows = [
        ["kernel", "us/image", "launches"],
        *kernels,
        *([name, figure, ""] for name, figure in figures.items()),
    ]
    return figures | {"images": len(images), "kernels": kernels}, rows


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length of the union of spans (first, last)."""
    length, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        length += max(0.0, last - max(first, end))
        end = max(end, last)
    return length


def actor(bench: Bench) -> Measured:
    """Images per second of what an actor does with chunks of decoded images, by calls at a time."""
    rates = bench.rates(partial(Labeler(bench.segmenter), decoded_chunk(bench.images)))
    return {"images_per_s": rates}, [["calls at a time", "images/s"], *rates.items()]


def decoded_chunk(images: Sequence[np.ndarray]) -> Chunk:
    """A chunk of images as the decoders hand it to an actor."""
    records = []
    for index, image in enumerate(images):
        height, width, _ = image.shape
        record = DecodedImage(index=index, key=f"{index}", file_name=f"{index}.jpg", status=Status.OK, orientation=1)
        record.height, record.width = record.rgb_height, record.rgb_width = height, width
        record.rgb = np.ascontiguousarray(image).data.cast("B")
        records.append(record)
    return Chunk(1, 0, table_of(records, DECODED_SCHEMA))


def side_by_side(threads: ThreadPoolExecutor, function: Callable[[], object], calls: int) -> None:
    """Calls a function in several threads at once; an error of one is raised here."""
    for call in [threads.submit(function) for _ in range(calls)]:
        call.result()


def summary(bench: Bench) -> dict[str, object]:
    """The model and the options, for the line of JSON."""
    subject, config = bench.subject, bench.subject.config
    facts = {"model": subject.name, "weights": "loaded" if subject.loaded else "drawn", "precision": subject.precision}
    return facts | {"window_batch": config.window_batch, "short_side": config.short_side} | asdict(bench.options)


PARTS: dict[str, Callable[[Bench], Measured]] = {
    "ceilings": ceilings,
    "tower": tower,
    "scoring": scoring,
    "images": whole_images,
    "profile": profiled,
    "actor": actor,
}
