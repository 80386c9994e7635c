"""`scclip student`: does it pay to train on these labels? A small network learns from an export alone, its teacher is
the demo model that made the labels, and both are measured on scenes that neither has seen.

    scclip student --output student-run

Scenes without truth → `scclip label --save-confidence` → `scclip report` (it writes thresholds.yaml) → `scclip export
--format png --images`, as they are and with --thresholds → training in plain PyTorch (scclip/demo/student.py) → mIoU on
the demo's test split.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from scclip.demo.evaluate import SEEDS, SIZES
from scclip.demo.scenes import CLASSES, scene
from scclip.demo.student import Sample, Student, StudentConfig, predict, train
from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.jobs.cli.cluster import local_or_cluster
from scclip.jobs.cli.talk import say, tell
from scclip.jobs.demo import TRUTH, evaluated
from scclip.jobs.export import export
from scclip.jobs.label import label
from scclip.jobs.options.export import ExportOptions, SelectionOptions
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.options.report import ReportOptions
from scclip.jobs.options.student import StudentOptions
from scclip.jobs.report import write_report
from scclip.metrics import confusion, mean_iou
from scclip.pipeline.annotations.numbering import find_numbering
from scclip.pipeline.annotations.png import png
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.readers.tar import tar_bytes
from scclip.pipeline.review.curation import THRESHOLDS
from scclip.pipeline.storage.files import create, exists, join, list_files, read_bytes
from scclip.segmentation.types import SegmentationOptions

FIRST_SEED = 4_000_000  # of training scenes: no other seeds of the demo reach them (scclip/demo/pool.py, jobs/demo.py)
TRAINING_SIZES = ((240, 320), (320, 240), (240, 426), (300, 400), (400, 280), (200, 400))  # height, width, in turn
SCENES_PER_SHARD = 100
DEMO_ROWS = len(CLASSES) + 1


def student(options: StudentOptions) -> int:
    """Labels, exports, trains two students and evaluates them; prints the figures and one JSON line."""
    output = options.output.rstrip("/") or "/"
    seeds = range(FIRST_SEED, FIRST_SEED + options.scenes)
    write_scenes(join(output, "scenes"), draw_scenes(seeds, TRAINING_SIZES, truth=False))
    write_scenes(join(output, "test"), draw_scenes(SEEDS["test"][: options.test], SIZES["test"], truth=True))
    label_and_export(output, options.keep)
    teacher = mean_iou(evaluated(join(output, "labels-test"), join(output, "test")).matrices["scclip"])
    figures: dict[str, float] = {"teacher": round(teacher, 4)}
    for name in ("raw", "sure"):
        learned, seconds, cpu = learn(join(output, name), options.steps)
        figures[name] = round(mean_iou(examine(learned, join(output, "test"))), 4)
        figures |= {f"{name}_seconds": round(seconds, 1), f"{name}_cpu_seconds": round(cpu, 1)}
    best = max(figures["raw"], figures["sure"])
    helps = "helps" if figures["sure"] > figures["raw"] else "does not help"
    tell(
        "",
        f"mIoU on {options.test} test scenes: teacher {teacher:.3f}, student {figures['raw']:.3f} from all labels, "
        f"{figures['sure']:.3f} from the surest {options.keep:.0%} of every class",
        f"the better student reaches {best / teacher:.1%} of its teacher; leaving unsure pixels out {helps} here",
    )
    print(json.dumps({"scenes": options.scenes, "test": options.test, "steps": options.steps, **figures}))
    return 0


def draw_scenes(seeds: Iterable[int], sizes: Sequence[tuple[int, int]], truth: bool) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of pictures, each with its truth or alone: then no student can learn from the truth."""
    for index, seed in enumerate(seeds):
        image, labels = scene(seed, *sizes[index % len(sizes)])
        yield f"{index:06d}.png", png(image)
        if truth:
            yield f"{index:06d}.{TRUTH}", png(labels)


def write_scenes(folder: str, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes tars of 100 scenes each, unless the first one is there."""
    if exists(join(folder, "scenes-00000.tar")):
        return
    say(f"drawing scenes: {folder}")
    everything = list(files)
    per_shard = SCENES_PER_SHARD * (2 if any(name.endswith(TRUTH) for name, _ in everything) else 1)
    for number, first in reversed(list(enumerate(range(0, len(everything), per_shard)))):  # the first one comes last
        create(join(folder, f"scenes-{number:05d}.tar"), tar_bytes(everything[first : first + per_shard]))


def label_and_export(output: str, keep: float) -> None:
    """Runs the verbs label, report and export, on one local Ray."""
    with local_or_cluster("student", None) as cluster:
        cluster.start()
        for scenes, run in (("scenes", "labels"), ("test", "labels-test")):
            given = {"inputs": (join(output, scenes),), "output": join(output, run), "vocabulary": "demo"}
            options = LabelOptions(**given, save_confidence=run == "labels")  # type: ignore[arg-type]
            label(options, ModelConfig(model="demo"), SegmentationOptions(), ComputeConfig())
    write_report(ReportOptions(output=join(output, "labels"), truth="none", keep=keep))
    for name, thresholds in (("raw", ""), ("sure", join(output, "labels", THRESHOLDS))):
        form = ExportOptions(run=join(output, "labels"), output=join(output, name), format="png", images=True)
        export(form, SelectionOptions(thresholds=thresholds))


def learn(folder: str, steps: int) -> tuple[Student, float, float]:
    """Trains a student on an export; returns it, the seconds that took, and the CPU seconds."""
    samples = list(read_pairs(folder, "seg.png"))
    check_numbers(folder)
    say(f"training on {len(samples)} pictures of {folder}")
    began, cpu = time.monotonic(), time.process_time()

    def show(step: int, loss: float) -> None:
        say(f"step {step}: loss {loss:.3f}")

    learned = train(samples, len(CLASSES), StudentConfig(steps=steps), show)
    return learned, time.monotonic() - began, time.process_time() - cpu


def check_numbers(folder: str) -> None:
    """UserError unless the export's numbers are those that the student learns: the demo's classes, from 1."""
    numbering = find_numbering([join(folder, "train", "0000001.tar")])
    if numbering is None or numbering.meanings != dict(enumerate(CLASSES, start=1)):
        raise UserError(f"{folder}: its categories.json is not that of the demo's classes from 1; remove it, run again")


def read_pairs(folder: str, suffix: str) -> Iterator[Sample]:
    """Yields pictures and their label maps from tars of KEY.png and KEY.seg.png."""
    for file in list_files(folder):
        if file.url.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(read_bytes(file.url))) as tar:
                members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
            for name in (name for name in members if name.endswith(f".{suffix}")):
                pair = members[f"{name.removesuffix(suffix)}png"], members[name]
                picture, truth = (np.asarray(Image.open(io.BytesIO(data)), np.uint8) for data in pair)
                yield picture, truth


def examine(learned: Student, folder: str) -> npt.NDArray[np.int64]:
    """Returns the confusion matrix, int64 (C, C + 1), of a student on scenes with truth."""
    total = np.zeros((DEMO_ROWS, DEMO_ROWS + 1), np.int64)
    for image, truth in read_pairs(folder, TRUTH):
        total += confusion(truth, predict(learned, image), DEMO_ROWS)
    return total
