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
Meaning = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize("components", [(), ("--components",)], ids=["classes", "components"])
def test_supervision_reads_coco(
    exported: Export, package: Package, assert_equal: Check, components: tuple[str, ...], base: int
) -> None:
    supervision = package("supervision")
    output = exported("coco", *components, "--label-base", base)
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
def test_datumaro_reads_it_as_cvat_does(
    exported: Export, package: Package, assert_equal: Check, kind: str, base: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With classes from 0 the first one has no label there, which the export says."""
    datumaro = package("datumaro")
    name = {"coco": "coco_instances", "coco-panoptic": "coco_panoptic"}[kind]
    found = {}
    data = datumaro.Dataset.import_from(str(exported(kind, "--label-base", base)), name)
    assert ("Datumaro and CVAT take category 0" in capsys.readouterr().err) == (base == 0)
    names = {None: NAMES[0]} if base == 0 else {}
    names |= {index: label.name for index, label in enumerate(data.categories()[datumaro.AnnotationType.label])}
    for item in data:
        plane = np.zeros(item.media.size, np.uint8)
        annotations = [one for one in item.annotations if one.type is datumaro.AnnotationType.mask]
        masks = [annotation.image.astype(bool) for annotation in annotations]
        labels = [NAMES.index(names[annotation.label]) + 1 for annotation in annotations]
        found[item.id.rsplit("/", 1)[-1]] = paint(plane, masks, labels)
    assert_equal(found)


def test_fiftyone_reads_its_own_folders(exported: Export, package: Package, assert_equal: Check, base: int) -> None:
    """What Dataset.from_dir(…, COCODetectionDataset) reads with; the database behind it is not needed for that."""
    importer = package("fiftyone.utils.coco").COCODetectionDatasetImporter
    output, found = exported("fiftyone", "--label-base", base), {}
    with importer(dataset_dir=str(output / "train"), label_types="segmentations") as samples:
        for path, metadata, label in samples:
            plane = np.zeros((metadata.height, metadata.width), np.uint8)
            for detection in label.detections:
                box = zip(detection.bounding_box, plane.shape[::-1], strict=False)
                x, y = (round(side * size) for side, size in box)
                height, width = detection.mask.shape
                inside = plane[y : y + height, x : x + width]
                paint(inside, [detection.mask.astype(bool)], [NAMES.index(detection.label) + 1])
            found[Path(path).stem] = plane
    assert_equal(found)


def test_fiftyone_reads_plain_folders(
    exported: Export, package: Package, assert_equal: Check, base: int, meaning: Meaning
) -> None:
    importer = package("fiftyone.utils.data.importers").ImageSegmentationDirectoryImporter
    output, found = exported("png-folders", "--label-base", base), {}
    where = {"data_path": str(output / "images/train"), "labels_path": str(output / "labels/train")}
    with importer(**where, load_masks=True) as samples:
        for path, _, label in samples:
            found[Path(path).stem] = meaning(label.mask)
    assert_equal(found)


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
        assert config.validate_task({"data": task["data"]})
        assert all(config.validate_prediction(prediction) for prediction in task["predictions"])
    tasks[0]["predictions"][0]["result"][0]["value"]["brushlabels"] = ["bicycle"]
    assert not config.validate_prediction(tasks[0]["predictions"][0])
