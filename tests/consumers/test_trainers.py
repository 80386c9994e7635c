"""Trainers' own loaders: Ultralytics, mmsegmentation, transformers, litdata."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
from classed_runs import NAMES
from PIL import Image

Maps = dict[str, np.ndarray]
Export = Callable[..., Path]
Package = Callable[[str], ModuleType]
Meaning = Callable[[np.ndarray], np.ndarray]


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
    exported: Export, package: Package, assert_equal: Callable[[Maps], None], base: int, meaning: Meaning
) -> None:
    package("mmcv")
    sys.modules.setdefault("mmcv.ops", MagicMock())  # compiled operators of networks, which mmcv-lite leaves out
    basesegdataset = package("mmseg.datasets.basesegdataset")
    transforms = package("mmseg.datasets.transforms")
    output = exported("png-folders", "--label-base", base)
    names = tuple(json.loads((output / "categories.json").read_text())["id2label"].values())
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
        found[Path(info["seg_map_path"]).stem] = meaning(info["gt_seg_map"])
    (turned,) = {*(path.stem for path in (output / "labels").rglob("*.png"))} - found.keys()
    assert (output / f"images/train/street/{turned}.jpg").is_file()  # BaseSegDataset looks for one ending at a time
    found[turned] = meaning(np.asarray(Image.open(output / f"labels/train/street/{turned}.png")))
    assert_equal(found)


def test_segformer_of_transformers_learns_from_plain_folders(
    exported: Export, package: Package, labels: Maps, base: int
) -> None:
    """With id2label of categories.json: its loss is the definition's, steps lessen it, its map names the classes."""
    transformers, torch = package("transformers"), package("torch")
    output = exported("png-folders", "--label-base", base)
    said = json.loads((output / "categories.json").read_text())
    names = {int(number): name for number, name in said["id2label"].items()}
    config = transformers.SegformerConfig(
        id2label=names, label2id={name: number for number, name in names.items()},
        semantic_loss_ignore_index=said["ignore"], depths=[1] * 4, hidden_sizes=[32] * 4, decoder_hidden_size=64,
        num_attention_heads=[1] * 4, sr_ratios=[4, 2, 1, 1], strides=[2] * 4, patch_sizes=[5, 3, 3, 3],
        hidden_dropout_prob=0, classifier_dropout_prob=0, drop_path_rate=0,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.SegformerForSemanticSegmentation(config)
    processor = transformers.SegformerImageProcessor(do_resize=False, do_reduce_labels=False)
    name = "photo 3"
    picture = Image.open(output / f"images/train/street/{name}.png").convert("RGB")
    plane = Image.open(output / f"labels/train/street/{name}.png")
    batch, known = processor(picture, plane, return_tensors="pt"), labels[name] > 0
    assert (batch["labels"][0].numpy() == np.where(known, labels[name].astype(int) - 1 + base, 255)).all()
    first = network(**batch)
    logits = torch.nn.functional.interpolate(first.logits, known.shape, mode="bilinear", align_corners=False)
    scores = logits[0].log_softmax(0).detach().numpy()[:, known]
    true = labels[name][known].astype(int) - 1 + base
    np.testing.assert_allclose(first.loss.item(), -scores[true, np.arange(true.size)].mean(), rtol=1e-4)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = network(**batch).loss
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = network.eval()(pixel_values=batch["pixel_values"])
    (predicted,) = processor.post_process_semantic_segmentation(after, target_sizes=[known.shape])
    named = np.vectorize(network.config.id2label.get)(predicted.numpy())
    right = named == np.array(["", *NAMES])[labels[name]]
    assert loss < 0.5 * first.loss and right[known].mean() > 0.7  # the most frequent class alone: 0.24


def test_litdata_streams_parquet(
    exported: Export,
    package: Package,
    assert_equal: Callable[[Maps], None],
    tmp_path: Path,
    base: int,
    meaning: Meaning,
) -> None:
    litdata = package("litdata")
    loader = package("litdata.streaming.item_loader").ParquetLoader
    folder = exported("parquet", "--label-base", base) / "data"
    litdata.index_parquet_dataset(str(folder))
    found = {}
    for row in litdata.StreamingDataset(str(folder), item_loader=loader()):
        plane = np.asarray(Image.open(io.BytesIO(row["label"]["bytes"])))
        found[row["key"].rsplit("/", 1)[-1]] = meaning(plane)
    assert_equal(found)
