"""Photographs → labels → export → a training loop in torchvision. No label is drawn by hand.

    python examples/label_and_train.py photos/ work/ --vocabulary voc21 \
        --model ViT-B-16-quickgelu --pretrained openai --epochs 20

The same call again finds labels and export done, and only trains. The validation split is labeled by the same model:
its mIoU says how well the student has learned from the teacher, not how good the labels are.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.transforms import v2

IGNORE = 255  # pixels without a class


def scclip(*words: str) -> None:
    """Runs a verb as a shell would; ends this program where it fails."""
    done = subprocess.run([sys.executable, "-m", "scclip", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


class Labels(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pictures of one split of a COCO export, with the class of every pixel: 0 to N-1, or IGNORE."""

    def __init__(self, export: Path, split: str, size: int, train: bool) -> None:
        self.coco = COCO(export / "annotations" / f"instances_{split}.json")
        self.folder, self.ids = export / "images" / split, sorted(self.coco.imgs)
        self.classes = [self.coco.cats[category]["name"] for category in sorted(self.coco.cats)]
        cut = (
            [v2.RandomResizedCrop(size, (0.5, 1.0)), v2.RandomHorizontalFlip()] if train else [v2.Resize((size, size))]
        )
        scale = v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True)
        self.transform = v2.Compose([*cut, scale])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        entry = self.coco.imgs[self.ids[place]]
        image = tv_tensors.Image(Image.open(self.folder / entry["file_name"]).convert("RGB"))
        labels = np.full((entry["height"], entry["width"]), IGNORE, np.uint8)
        for annotation in self.coco.imgToAnns[entry["id"]]:
            labels[self.coco.annToMask(annotation) > 0] = annotation["category_id"] - 1  # COCO counts from 1
        image, mask = self.transform(image, tv_tensors.Mask(labels))
        return image, mask


def mean_iou(model: torch.nn.Module, loader: DataLoader[tuple[torch.Tensor, torch.Tensor]], classes: int) -> float:
    """Mean IoU over the classes that occur, 0 to 1."""
    counts = torch.zeros(classes * classes)
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            predicted, known = model(images)["out"].argmax(1), labels != IGNORE
            counts += torch.bincount(labels[known] * classes + predicted[known], minlength=classes * classes)
    matrix = counts.view(classes, classes)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return float((matrix.diagonal() / union)[union > 0].mean())


def main() -> None:
    """Labels, exports, trains; prints the loss and the agreement with the labels after every epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("work", type=Path)
    parser.add_argument("--vocabulary", default="voc21")
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--pretrained")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side while training")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()

    run, export = options.work / "labels", options.work / "export"
    weights = ["--pretrained", options.pretrained] if options.pretrained else []
    scclip("label", options.photos, str(run), "--vocabulary", options.vocabulary, "--model", options.model, *weights)
    scclip("export", str(run), str(export), "--format", "coco", "--images", "--val", "0.2")

    train, val = (Labels(export, split, options.size, split == "train") for split in ("train", "val"))
    torch.manual_seed(0)
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(train.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(train, options.batch, shuffle=True, drop_last=True)
    for epoch in range(1, options.epochs + 1):
        model.train()
        losses = []
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images)["out"], labels, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        agreement = mean_iou(model, DataLoader(val, options.batch), len(train.classes))
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, mIoU with the labels of {len(val)} pictures {agreement:.3f}")
    torch.save(model.state_dict(), options.work / "student.pt")
    print(f"weights: {options.work / 'student.pt'}")


if __name__ == "__main__":
    main()
