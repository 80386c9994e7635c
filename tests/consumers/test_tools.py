"""Tools in which people look at labels and mend them: supervision, Datumaro (CVAT), FiftyOne, Label Studio."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import numpy as np
import pytest
from classed_runs import NAMES, paint
from PIL import Image

Maps = dict[str, np.ndarray]
Export = Callable[..., Path]
Package = Callable[[str], ModuleType]
Check = Callable[[Maps], None]


@pytest.mark.parametrize("components", [(), ("--components",)], ids=["classes", "components"])
def test_supervision_reads_coco(
    exported: Export, package: Package, assert_equal: Check, components: tuple[str, ...]
) -> None:
    supervision = package("supervision")
    output = exported("coco", *components)
    data = supervision.DetectionDataset.from_coco(
        str(output / "images/train"), str(output / "annotations/instances_train.json"), force_masks=True
    )
    assert list(data.classes) == list(NAMES)
    found = {}
    for path, image, detections in data:
        plane = np.zeros(image.shape[:2], np.uint8)
        found[Path(path).stem] = paint(plane, detections.mask, detections.class_id + 1)
    assert_equal(found)


@pytest.mark.parametrize("kind", ["coco", "coco-panoptic"])
def test_datumaro_reads_it_as_cvat_does(exported: Export, package: Package, assert_equal: Check, kind: str) -> None:
    datumaro = package("datumaro")
    name = {"coco": "coco_instances", "coco-panoptic": "coco_panoptic"}[kind]
    found = {}
    for item in datumaro.Dataset.import_from(str(exported(kind)), name):
        plane = np.zeros(item.media.size, np.uint8)
        masks = [annotation.image.astype(bool) for annotation in item.annotations]
        names = datumaro_names(item)
        found[item.id.rsplit("/", 1)[-1]] = paint(plane, masks, names)
    assert_equal(found)


def datumaro_names(item: object) -> list[int]:
    """Categories of an item's masks; Datumaro counts labels from 0."""
    return [annotation.label + 1 for annotation in item.annotations]  # type: ignore[attr-defined]


def fiftyone_dataset(fiftyone: ModuleType, **where: object) -> object:
    """A dataset of FiftyOne; skips where its database does not start."""
    try:
        return fiftyone.Dataset.from_dir(**where)
    except fiftyone.core.config.FiftyOneConfigError as error:
        pytest.skip(f"FiftyOne's database does not start: {error}")


def test_fiftyone_reads_its_own_folders(exported: Export, package: Package, assert_equal: Check) -> None:
    fiftyone, types = package("fiftyone"), package("fiftyone.types")
    output = exported("fiftyone")
    kind = {"dataset_type": types.COCODetectionDataset, "label_types": "segmentations"}
    data = fiftyone_dataset(fiftyone, dataset_dir=str(output / "train"), **kind)
    found = {}
    for sample in data:  # type: ignore[attr-defined]
        plane = np.zeros(np.asarray(Image.open(sample.filepath)).shape[:2], np.uint8)
        for detection in sample["ground_truth"].detections:
            x, y = (round(side * size) for side, size in zip(detection.bounding_box, plane.shape[::-1], strict=False))
            height, width = detection.mask.shape
            inside = plane[y : y + height, x : x + width]
            paint(inside, [detection.mask.astype(bool)], [NAMES.index(detection.label) + 1])
        found[Path(sample.filepath).stem] = plane
    assert_equal(found)


def test_fiftyone_reads_plain_folders(exported: Export, package: Package, assert_equal: Check) -> None:
    fiftyone, types = package("fiftyone"), package("fiftyone.types")
    output = exported("png-folders")
    kind = {"dataset_type": types.ImageSegmentationDirectory, "compute_metadata": False}
    where = {"data_path": str(output / "images/train"), "labels_path": str(output / "labels/train")}
    data = fiftyone_dataset(fiftyone, **where, **kind)
    masks = {Path(sample.filepath).stem: sample["ground_truth"].get_mask() for sample in data}  # type: ignore[attr-defined]
    assert_equal({name: np.where(plane == 255, 0, plane) for name, plane in masks.items()})


@pytest.mark.parametrize("components", [(), ("--components",)], ids=["classes", "components"])
def test_label_studio_decodes_the_brush(
    exported: Export, package: Package, assert_equal: Check, components: tuple[str, ...]
) -> None:
    """Its converter's decoder draws the label maps; scores lie within 0..1; the pictures are below the root."""
    brush = package("label_studio_converter.brush")
    output, found = exported("label-studio", *components), {}
    for path in sorted((output / "tasks").glob("*.json")):
        for task in json.loads(path.read_text()):
            (prediction,) = task["predictions"]
            regions = prediction["result"]
            assert len({region["id"] for region in regions}) == len(regions)
            assert all(0 < one["score"] <= 1 for one in (prediction, *regions))
            shape = regions[0]["original_height"], regions[0]["original_width"]
            masks = [brush.decode_rle(region["value"]["rle"]).reshape(*shape, 4)[..., 3] > 0 for region in regions]
            names = [NAMES.index(region["value"]["brushlabels"][0]) + 1 for region in regions]
            picture = output / unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
            assert np.asarray(Image.open(picture)).shape[:2] == shape
            found[task["data"]["key"].rsplit("/", 1)[-1]] = paint(np.zeros(shape, np.uint8), masks, names)
    assert_equal(found)


def test_label_studio_accepts_tasks_and_interface(exported: Export, package: Package) -> None:
    interface = package("label_studio_sdk.label_interface")
    output = exported("label-studio")
    config = interface.LabelInterface((output / "label_config.xml").read_text())
    assert list(config.get_control("label").labels) == list(NAMES)
    tasks = [task for path in (output / "tasks").glob("*.json") for task in json.loads(path.read_text())]
    assert len(tasks) == 8
    for task in tasks:
        assert config.validate_task(task)
        assert all(config.validate_prediction(prediction) for prediction in task["predictions"])
    tasks[0]["predictions"][0]["result"][0]["value"]["brushlabels"] = ["bicycle"]
    assert not config.validate_prediction(tasks[0]["predictions"][0])
