"""Trainers' own loaders: Ultralytics, mmsegmentation, transformers, litdata."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

Maps = dict[str, np.ndarray]
Export = Callable[..., Path]
Package = Callable[[str], ModuleType]


@pytest.mark.parametrize("val", [0, 0.5, 0.001, 0.999], ids=["no val", "val", "empty val", "empty train"])
@pytest.mark.parametrize("place", ["elsewhere", "beside"])
def test_ultralytics_finds_the_dataset_from_any_folder(
    exported: Export, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, val: float, place: str
) -> None:
    """check_det_dataset is what `yolo train data=…` begins with; it raises where a folder is missing."""
    utils = package("ultralytics.data.utils")
    output = exported("yolo", "--val", val)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else" if place == "elsewhere" else output)
    data = utils.check_det_dataset(
        str(output / "data.yaml") if place == "elsewhere" else "data.yaml", autodownload=False
    )
    assert data["nc"] == 5 and data["names"][1] == "road & kerb"
    pictures = {path for split in ("train", "val") for path in Path(data[split]).rglob("*.*")}
    assert len(pictures) == 8 and all(path.is_file() for path in pictures)


def test_ultralytics_draws_the_polygons(exported: Export, package: Package, labels: Maps) -> None:
    """Its own loader; cv2.fillPoly draws a polygon's border as well, so that single pixels at edges differ."""
    dataset = package("ultralytics.data.dataset")
    check = package("ultralytics.data.utils").check_det_dataset
    output = exported("yolo")
    data = check(str(output / "data.yaml"), autodownload=False)
    loaded = dataset.YOLODataset(img_path=data["train"], data=data, task="segment", augment=False, imgsz=240)
    assert len(loaded) == 8
    lines = sum(len(path.read_text().splitlines()) for path in (output / "labels").rglob("*.txt"))
    assert sum(len(entry["cls"]) for entry in loaded.labels) == lines > 8
    polygons = package("ultralytics.data.utils").polygon2mask
    wrong = total = 0
    for entry in loaded.labels:
        plane = labels[Path(entry["im_file"]).stem]
        drawn = np.zeros_like(plane)
        for category, segment in zip(entry["cls"][:, 0], entry["segments"], strict=True):
            ring = (segment * entry["shape"][::-1]).reshape(1, -1)
            drawn[polygons(plane.shape, ring).astype(bool)] = int(category) + 1
        wrong, total = wrong + int((drawn != plane).sum()), total + plane.size
    assert entry["shape"] == plane.shape and wrong / total < 0.12


@pytest.mark.parametrize("listed", [False, True], ids=["data.yaml", "train.txt"])
def test_ultralytics_trains_an_epoch(exported: Export, package: Package, tmp_path: Path, listed: bool) -> None:
    """The smallest network from nothing, by the folders or by the list that CVAT reads as well."""
    ultralytics = package("ultralytics")
    output = exported("yolo", "--val", 0.4)
    if listed:
        text = (output / "data.yaml").read_text()
        (output / "data.yaml").write_text(text.replace("images/train", "train.txt").replace("images/val", "val.txt"))
    network = ultralytics.YOLO("yolo11n-seg.yaml")
    settings = {"epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "workers": 0, "plots": False, "val": True}
    network.train(data=str(output / "data.yaml"), project=str(tmp_path / "runs"), **settings)
    assert next((tmp_path / "runs").rglob("last.pt")).stat().st_size > 0


def test_mmsegmentation_loads_plain_folders(
    exported: Export, package: Package, assert_equal: Callable[[Maps], None]
) -> None:
    package("mmcv")
    sys.modules.setdefault("mmcv.ops", MagicMock())  # compiled operators of networks, which mmcv-lite leaves out
    basesegdataset = package("mmseg.datasets.basesegdataset")
    transforms = package("mmseg.datasets.transforms")
    output = exported("png-folders")
    names = ("background", "car", "road & kerb", "tree", "person", "traffic light")
    data = basesegdataset.BaseSegDataset(
        data_root=str(output),
        data_prefix={"img_path": "images/train", "seg_map_path": "labels/train"},
        metainfo={"classes": names},
        img_suffix=".png",
        seg_map_suffix=".png",
        pipeline=[],
    )
    found = {}
    for place in range(len(data)):
        info = transforms.LoadAnnotations()(data.get_data_info(place))
        plane = info["gt_seg_map"]
        found[Path(info["seg_map_path"]).stem] = np.where(plane == 255, 0, plane)
    (turned,) = {*(path.stem for path in (output / "labels").rglob("*.png"))} - found.keys()
    assert (output / f"images/train/street/{turned}.jpg").is_file()  # BaseSegDataset looks for one ending at a time
    found[turned] = np.asarray(Image.open(output / f"labels/train/street/{turned}.png")) % 255
    assert_equal(found)


def test_segformer_of_transformers_learns_from_plain_folders(exported: Export, package: Package, labels: Maps) -> None:
    """Its image processor keeps every number, ignored pixels too, and its loss is finite."""
    transformers = package("transformers")
    torch = package("torch")
    output = exported("png-folders")
    paths = sorted((output / "labels").rglob("*.png"))
    maps = [Image.open(path) for path in paths]
    pictures = [next((output / "images/train/street").glob(f"{path.stem}.*")) for path in paths]
    processor = transformers.SegformerImageProcessor(do_resize=False, do_reduce_labels=False)
    config = transformers.SegformerConfig(
        num_labels=6, depths=[1] * 4, hidden_sizes=[8] * 4, decoder_hidden_size=8, num_attention_heads=[1] * 4
    )
    network = transformers.SegformerForSemanticSegmentation(config)
    for path, picture, plane in zip(paths, pictures, maps, strict=True):
        batch = processor(Image.open(picture).convert("RGB"), plane, return_tensors="pt")
        kept = batch["labels"][0].numpy()
        np.testing.assert_array_equal(np.where(kept == 255, 0, kept), labels[path.stem])
        assert torch.isfinite(network(**batch).loss)


def test_litdata_streams_parquet(
    exported: Export, package: Package, assert_equal: Callable[[Maps], None], tmp_path: Path
) -> None:
    litdata = package("litdata")
    loader = package("litdata.streaming.item_loader").ParquetLoader
    folder = exported("parquet") / "data"
    litdata.index_parquet_dataset(str(folder))
    found = {}
    for row in litdata.StreamingDataset(str(folder), item_loader=loader()):
        plane = np.asarray(Image.open(io.BytesIO(row["label"]["bytes"])))
        found[row["key"].rsplit("/", 1)[-1]] = np.where(plane == 255, 0, plane)
    assert_equal(found)
