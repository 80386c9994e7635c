"""Consumers load an export and see the run's labels: the packages of the plain suite, or rules of others.

Those of `make consumers` are in tests/consumers.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from classed_runs import label_maps
from PIL import Image

from scclip.jobs.cli.main import main

Maps = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def labels(saved_run: Path) -> Maps:
    """The run's label maps by key, from its masks."""
    return label_maps(saved_run)


def exported(run: Path, output: Path, *words: Any) -> Path:
    assert main(["export", str(run), str(output), "--images", *map(str, words)]) == 0
    return output


@pytest.fixture(scope="module")
def coco_export(saved_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(saved_run, tmp_path_factory.mktemp("coco"), "--components", "--segmentation", "rle")


@pytest.mark.parametrize("form", ["rle", "uncompressed", "polygons"])
def test_pycocotools_reads_every_form_and_scores_it_one(
    saved_run: Path, labels: Maps, tmp_path: Path, form: str
) -> None:
    """COCO, loadRes of the annotations as results, COCOeval of both: AP 1; and every mask is the label map's."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    exported(saved_run, tmp_path / "out", "--components", "--segmentation", form)
    truth = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    ids = [annotation["id"] for annotation in truth.dataset["annotations"]]
    assert len(ids) == len(set(ids)) > 8
    results = []
    found = {
        entry["file_name"].rsplit(".", 1)[0]: np.zeros((entry["height"], entry["width"]), np.uint8)
        for entry in truth.dataset["images"]
    }
    for annotation in truth.dataset["annotations"]:
        mask = truth.annToMask(annotation).astype(bool)
        key = truth.imgs[annotation["image_id"]]["file_name"].rsplit(".", 1)[0]
        assert mask.sum() == annotation["area"] and not found[key][mask].any()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        assert annotation["bbox"] == box and 0 <= annotation["score"] <= 1
        found[key][mask] = annotation["category_id"]
        rle = truth.annToRLE(annotation)
        counts = rle["counts"].decode() if isinstance(rle["counts"], bytes) else rle["counts"]
        names = ("image_id", "category_id", "score")
        results.append({name: annotation[name] for name in names} | {"segmentation": rle | {"counts": counts}})
    for key, plane in labels.items():
        np.testing.assert_array_equal(found[key], plane)
    scores = COCOeval(truth, truth.loadRes(results), "segm")
    scores.params.maxDets = [1, 10, 10_000]  # an image of random weights has more components than COCO's 100
    scores.evaluate()
    scores.accumulate()
    precision = scores.eval["precision"][:, :, :, 0, -1]
    assert precision[precision > -1].min() == 1.0


def test_torchvision_sees_the_masks_on_its_pictures(coco_export: Path, labels: Maps) -> None:
    """CocoDetection ignores EXIF, as the run does (--exif ignore): a turned picture fits its masks as well."""
    from torchvision.datasets import CocoDetection

    data = CocoDetection(str(coco_export / "images/train"), str(coco_export / "annotations/instances_train.json"))
    assert len(data) == 8
    turned = 0
    for place, identity in enumerate(data.ids):
        picture, annotations = data[place]
        turned += picture.getexif().get(0x0112, 1) == 6
        key = data.coco.imgs[identity]["file_name"].rsplit(".", 1)[0]
        drawn = np.zeros((picture.height, picture.width), np.uint8)
        for annotation in annotations:
            drawn[data.coco.annToMask(annotation).astype(bool)] = annotation["category_id"]
        np.testing.assert_array_equal(drawn, labels[key])
    assert turned == 1


def test_panoptic_keeps_the_rules_of_panopticapi(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    """What its evaluation checks: every id of the PNG is described once and the other way round, categories are known,
    areas are right; and its file layout: NAME.json beside the folder NAME."""
    output = exported(saved_run, tmp_path / "out", "--format", "coco-panoptic")
    document = json.loads((output / "annotations/panoptic_train.json").read_text())
    categories = {category["id"]: category for category in document["categories"]}
    assert {category["isthing"] for category in categories.values()} == {0, 1}
    images = {image["id"]: image for image in document["images"]}
    assert len(document["annotations"]) == len(images) == 8
    for annotation in document["annotations"]:
        path = output / "annotations/panoptic_train" / annotation["file_name"]
        pixels = np.asarray(Image.open(path), np.uint32)
        ids = pixels[..., 0] + 256 * pixels[..., 1] + 256**2 * pixels[..., 2]  # panopticapi.utils.rgb2id
        described = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(ids).tolist()) - {0} == set(described)
        assert len(described) == len(annotation["segments_info"])
        key = images[annotation["image_id"]]["file_name"].rsplit(".", 1)[0]
        drawn = np.zeros(ids.shape, np.uint8)
        for number, segment in described.items():
            mask = ids == number
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert mask.sum() == segment["area"] and segment["bbox"] == box and segment["iscrowd"] == 0
            assert segment["category_id"] in categories
            drawn[mask] = segment["category_id"]
        np.testing.assert_array_equal(drawn, labels[key])
        if any(segment["category_id"] == 2 for segment in described.values()):  # stuff is one segment
            assert sum(segment["category_id"] == 2 for segment in described.values()) == 1


def test_ultralytics_rules(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    """Its documented format: images/ and labels/ by the same names, classes from 0, 3 points and up, within 0..1; and
    what its loader draws (cv2.fillPoly on rounded points): holes filled or not, little more than the label map."""
    output = exported(saved_run, tmp_path / "out", "--format", "yolo", "--val", 0.7)
    pictures = sorted(path for path in (output / "images").rglob("*") if path.is_file())
    texts = sorted((output / "labels").rglob("*.txt"))
    pairs = [path.with_suffix(".txt").relative_to(output / "images") for path in pictures]
    assert pairs == [path.relative_to(output / "labels") for path in texts] and len(texts) == 8
    differing, pixels = 0, 0
    for path in texts:
        plane = labels[path.stem]
        drawn = np.zeros_like(plane)
        for line in path.read_text().splitlines():
            category, *values = line.split()
            points = np.array(values, np.float32).reshape(-1, 2)
            assert 0 <= int(category) < 4 and len(points) >= 3 and points.min() >= 0 and points.max() <= 1
            cv2.fillPoly(drawn, [np.int32(points * plane.shape[::-1])], int(category) + 1)
        differing, pixels = differing + int((drawn != plane).sum()), pixels + plane.size
    assert differing / pixels < 0.12  # maps of random weights have borders everywhere; measured 0.06


def test_webdataset_joins_pictures_and_labels(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    output = exported(saved_run, tmp_path / "out", "--format", "png")
    urls = [str(path) for path in sorted((output / "train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == list(labels)
    for sample in samples:
        plane = labels[sample["__key__"]]
        picture = sample.get("png", sample.get("jpg"))
        assert picture.shape == (*plane.shape, 3)
        np.testing.assert_array_equal(np.asarray(sample["seg.png"])[..., 0], plane)  # rgb8 repeats a grey plane
        assert sample["json"]["key"] == sample["__key__"]


def test_hugging_face_datasets_loads_it(saved_run: Path, labels: Maps, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    output = exported(saved_run, tmp_path / "out", "--format", "parquet", "--val", 0.7)
    data = datasets.load_dataset(str(output / "data"), cache_dir=str(tmp_path / "cache"))
    assert set(data) == {"train", "validation"}
    rows = [row for split in data.values() for row in split]
    assert {row["key"] for row in rows} == set(labels)
    assert isinstance(data["train"].features["image"], datasets.Image)
    for row in rows:
        np.testing.assert_array_equal(np.asarray(row["label"]), labels[row["key"]])
        assert row["width"] == labels[row["key"]].shape[1] and row["image"].mode == "RGB"
