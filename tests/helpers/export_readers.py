"""What trainers' own loaders make of an export: (number in the picture, number in the label) of every image they see.

    assert sorted(READERS["yolo"](output)) == [(1, 1), (2, 2)]     # each image once, with its own label

The real package where it is installed (pycocotools, WebDataset, Hugging Face datasets); for Ultralytics, panopticapi,
FiftyOne and Label Studio their rules, written down here; tests/consumers asks them themselves.
"""

import contextlib
import glob
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import yaml
from PIL import Image
from stand_in_runs import BRIGHT, number, read_picture

from scclip.jobs.cli.main import main

Pairs = list[tuple[int, int]]
IMAGE_FIELDS = {"jpg", "jpeg", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff", "avif"}


def splits(output: Path, pattern: str) -> Iterator[Path]:
    """Files or folders of the splits, those of `train` first."""
    yield from sorted(output.glob(pattern.format("train"))) + sorted(output.glob(pattern.format("val")))


def coco(output: Path) -> Pairs:
    """pycocotools, and pictures opened as torchvision's CocoDetection does: images/SPLIT/FILE_NAME, as stored."""
    documents = splits(output, "annotations/instances_{}.json")
    return coco_pairs([(path, output / "images" / path.stem.rpartition("_")[2]) for path in documents])


def fiftyone(output: Path) -> Pairs:
    """FiftyOne's COCODetectionDataset: labels.json beside the folder data/."""
    return coco_pairs([(path, path.parent / "data") for path in splits(output, "{}/labels.json")])


def coco_pairs(documents: Sequence[tuple[Path, Path]]) -> Pairs:
    """COCO documents with the folders of their pictures, read by pycocotools."""
    from pycocotools.coco import COCO

    found, seen = Pairs(), set[Path]()
    for document, folder in documents:
        with contextlib.redirect_stdout(io.StringIO()):
            data = COCO(str(document))
        assert len(data.imgs) == len(data.dataset["images"]), "two images of one id"
        for identity, image in data.imgs.items():
            path = folder / image["file_name"]
            assert path not in seen, f"{path} is of two images"
            seen.add(path)
            bright = np.zeros((image["height"], image["width"]), bool)
            for annotation in data.loadAnns(data.getAnnIds(imgIds=[identity], catIds=[BRIGHT])):
                bright |= data.annToMask(annotation).astype(bool)
            found.append((number(read_picture(path.read_bytes())), number(bright)))
    return found


def panoptic(output: Path) -> Pairs:
    """panopticapi's layout: NAME.json beside the folder NAME of PNGs; every PNG and picture is one image's alone."""
    found, seen = Pairs(), set[Path]()
    for document in splits(output, "annotations/panoptic_{}.json"):
        content = json.loads(document.read_text())
        images = {image["id"]: image for image in content["images"]}
        assert len(images) == len(content["images"]) == len(content["annotations"])
        for annotation in content["annotations"]:
            path = document.with_suffix("") / annotation["file_name"]
            picture = output / "images" / document.stem.rpartition("_")[2]
            picture /= images.pop(annotation["image_id"])["file_name"]
            assert not {path, picture} & seen, f"{path} or {picture} is of two images"
            seen |= {path, picture}
            pixels = np.asarray(Image.open(path), np.uint32)
            ids = pixels[..., 0] + 256 * pixels[..., 1] + 256**2 * pixels[..., 2]  # panopticapi.utils.rgb2id
            bright = [part["id"] for part in annotation["segments_info"] if part["category_id"] == BRIGHT]
            found.append((number(read_picture(picture.read_bytes())), number(np.isin(ids, bright))))
    return found


def webdataset_samples(tars: list[Path]) -> list[dict[str, Any]]:
    """The samples that WebDataset joins."""
    import webdataset

    return list(webdataset.WebDataset([str(path) for path in tars], shardshuffle=False)) if tars else []


def seg_plane(data: bytes) -> np.ndarray:
    """The bright pixels of a label PNG."""
    return np.asarray(Image.open(io.BytesIO(data))) == BRIGHT


def png(output: Path) -> Pairs:
    """WebDataset: a sample is one picture, one label map, one JSON, each under its plain extension."""
    found = []
    for sample in webdataset_samples([path for path in splits(output, "{}/*.tar")]):
        fields = [name for name in sample if not name.startswith("__")]
        pictures = [name for name in fields if name in IMAGE_FIELDS]
        assert sorted(fields) == sorted([*pictures, "seg.png", "json"]) and len(pictures) == 1, fields
        found.append((number(read_picture(sample[pictures[0]])), number(seg_plane(sample["seg.png"]))))
    return found


def masks(run: Path) -> list[int]:
    """WebDataset over the run's own masks/: the number of every sample, which has all three planes."""
    found = []
    for sample in webdataset_samples(sorted((run / "masks").glob("*.tar"))):
        fields = sorted(name for name in sample if not name.startswith("__"))
        assert fields == ["argmax.png", "conf.png", "seg.png"], fields
        found.append(number(seg_plane(sample["seg.png"])))
    return found


def parquet(output: Path) -> Pairs:
    """Hugging Face datasets, streamed: picture and label as it decodes them."""
    from datasets import load_dataset

    files = {path.name.partition("-")[0]: str(path.parent / "{}-*.parquet") for path in splits(output, "data/{}-*")}
    files = {split: pattern.format(split) for split, pattern in files.items()}
    found = []
    for rows in load_dataset("parquet", data_files=files, streaming=True).values() if files else ():
        for row in rows:
            bright = np.asarray(row["label"]) == BRIGHT
            found.append((number(np.asarray(row["image"].convert("L")) > 127), number(bright)))
    return found


# Ultralytics 8.3: ultralytics/data/utils.py (IMG_FORMATS, check_det_dataset, img2label_paths, verify_image_label) and
# ultralytics/data/base.py (get_img_files).
IMG_FORMATS = {"bmp", "dng", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp", "pfm", "heic"}


def ultralytics_splits(data_yaml: Path | str, datasets: Path = Path("/nowhere/datasets")) -> dict[str, Path]:
    """Folder of every split, as check_det_dataset finds it from the current folder.

    The root is the key `path`, else the folder of the YAML file; a relative root that does not exist from the current
    folder lies in the folder of Ultralytics' settings, `datasets`.
    """
    data = yaml.safe_load(Path(data_yaml).read_text(encoding="utf-8"))
    root = Path(data.get("path") or Path(data_yaml).parent)
    if not root.exists() and not root.is_absolute():
        root = (datasets / root).resolve()
    found = {split: (root / data[split]).resolve() for split in ("train", "val")}
    for folder in found.values():
        if not folder.exists():
            raise FileNotFoundError(f"images not found, missing path {folder}")
    return found


def ultralytics_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures that the loader sees and keeps, with the label file that it looks for."""
    names = glob.glob(str(folder / "**" / "*.*"), recursive=True)  # passes over names that begin with a dot
    found = []
    for name in sorted(name for name in names if name.rpartition(".")[2].lower() in IMG_FORMATS):
        before, after = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
        label = after.join(name.rsplit(before, 1)).rsplit(".", 1)[0] + ".txt"
        with Image.open(name) as image:
            if str(image.format).lower() in IMG_FORMATS and min(image.size) > 9:
                found.append((Path(name), Path(label)))
    return found


def yolo(output: Path) -> Pairs:
    """Ultralytics' rules: pictures by suffix and content, labels by the path of the picture."""
    found = []
    for folder in splits(output, "images/{}"):
        for picture, label in ultralytics_pairs(folder):
            drawn, scale = np.zeros((64, 64), np.uint8), 64
            for line in label.read_text(encoding="utf-8").splitlines() if label.is_file() else ():
                category, *values = line.split()
                points = np.rint(np.array(values, float).reshape(-1, 2) * scale).astype(np.int32)
                if int(category) + 1 == BRIGHT:
                    cv2.fillPoly(drawn, [points], BRIGHT)
            found.append((number(read_picture(picture.read_bytes())), number(drawn == BRIGHT)))
    return found


def png_folders(output: Path) -> Pairs:
    """mmsegmentation's BaseSegDataset: a label map has its picture's path with another ending."""
    found = []
    for folder in splits(output, "images/{}"):
        for picture in sorted(path for path in folder.rglob("*") if path.is_file()):
            label = (output / "labels" / picture.relative_to(output / "images")).with_suffix(".png")
            assert cv2.imread(str(picture)) is not None, picture
            found.append((number(read_picture(picture.read_bytes())), number(seg_plane(label.read_bytes()))))
    assert len(found) == sum(path.is_file() for path in (output / "labels").rglob("*"))
    return found


def brush_values(data: Sequence[int]) -> list[int]:
    """The values of Label Studio's brush RLE, bit by bit as its format says (thi.ng's rle-pack)."""
    bits = iter("".join(f"{byte:08b}" for byte in data))

    def read(size: int) -> int:
        return int("".join(itertools.islice(bits, size)), 2)

    count, word = read(32), read(5) + 1
    sizes, values = [read(4) + 1 for _ in range(4)], list[int]()
    while len(values) < count:
        run, size = read(1), sizes[read(2)]
        length = read(size) + 1
        values += [read(word)] * length if run else [read(word) for _ in range(length)]
    return values


def label_studio(output: Path) -> Pairs:
    """Label Studio: its tasks, with pictures below the document root and masks as its brush decodes them."""
    found = []
    for path in splits(output, "tasks/{}-*.json"):
        for task in json.loads(path.read_text()):
            picture = output / unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
            (prediction,) = task["predictions"]
            bright = np.zeros((1, 1), bool)
            for region in prediction["result"]:
                shape = region["original_height"], region["original_width"], 4
                if region["value"]["brushlabels"] == ["bright"]:
                    bright = np.array(brush_values(region["value"]["rle"])).reshape(shape)[..., 3] > 0
            found.append((number(read_picture(picture.read_bytes())), number(bright)))
    return found


READERS: dict[str, Callable[[Path], Pairs]] = {
    "coco": coco,
    "coco-panoptic": panoptic,
    "png": png,
    "yolo": yolo,
    "parquet": parquet,
    "png-folders": png_folders,
    "fiftyone": fiftyone,
    "label-studio": label_studio,
}
FORMATS = sorted(READERS)
FILE_FORMATS = ["coco", "coco-panoptic", "yolo", "png-folders", "fiftyone"]  # a file of its own for every image


def pictures(output: Path, split: str = "train") -> Path:
    """The folder of an export's copied pictures."""
    folder = output / split / "data"
    return folder if folder.is_dir() else output / "images" / split


def exported(run: Path, kind: str, *words: str) -> Path:
    """The export of a run with pictures, beside it."""
    output = run.parent / f"{run.name}-{kind}"
    assert main(["export", str(run), str(output), "--format", kind, "--images", *words]) == 0
    return output


def assert_whole(run: Path, values: Sequence[int], formats: Sequence[str] = FORMATS) -> None:
    """Every format has every number once, in picture and label."""
    wanted = sorted((value, value) for value in values)
    for kind in formats:
        output = exported(run, kind)
        assert sorted(READERS[kind](output)) == wanted, kind
        counts = json.loads((output / "summary.json").read_text())["counts"]
        assert counts["train images"] == len(values), kind
