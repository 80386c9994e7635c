"""The student: a small segmentation network in plain PyTorch, trained from scratch on pictures and label maps alone.

    student = train(samples, classes=14, config=StudentConfig())      # samples: [(rgb, labels), ...]
    labels = predict(student, rgb)                                     # uint8 (H, W), categories from 1

It shows that labels of the pipeline can train another model. It is a U-Net that works at half resolution and doubles
its scores at the end; it does not know where the labels come from, and ignored pixels (255) have no loss.

Shapes: B crops of a batch, K classes, H × W pixels.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sample = tuple[np.ndarray, np.ndarray]  # uint8 (H, W, 3) RGB and uint8 (H, W): categories 1..K, 255 ignored
IGNORE = 255
SHORT = 224  # pixels of a picture's short side where the student looks at it
ZOOM = (0.8, 1.25)  # of that, in training: it sees things in several sizes
CROP = 96


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """How the student is trained."""

    steps: int = 3000
    """Optimisation steps."""
    batch: int = 16
    """Crops of a step."""
    rate: float = 3e-3
    """Highest learning rate; it rises for a twentieth of the steps, then falls to zero as a cosine."""
    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Channels at 1/2, 1/4, 1/8, 1/16 of the resolution."""
    seed: int = 0
    """Seed of the weights and of the crops."""


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 × 3 convolution with batch normalisation and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Student(nn.Module):
    """U-Net: (B, 3, H, W) float → (B, K, H, W) scores; any H, W."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        levels = zip((widths[0], *widths), widths, strict=False)
        self.down = nn.ModuleList([nn.Sequential(block(above, own), block(own, own)) for above, own in levels])
        pairs = list(itertools.pairwise(widths))[::-1]
        self.up = nn.ModuleList([block(low + high, low) for low, high in pairs])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores of every class at every pixel: (B, 3, H, W) float → (B, K, H, W) float."""
        features, passed = F.relu(self.stem(pixels)), list[Tensor]()
        for level, stage in enumerate(self.down):
            features = stage(F.max_pool2d(features, 2, ceil_mode=True) if level else features)
            passed.append(features)
        for stage, skip in zip(self.up, passed[-2::-1], strict=True):
            features = stage(torch.cat([upsample(features, skip), skip], 1))
        return upsample(self.head(features), pixels)


def upsample(features: Tensor, like: Tensor) -> Tensor:
    """Resizes features (B, D, h, w) bilinearly to the height and width of `like`."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


def train(
    samples: Sequence[Sample],
    classes: int,
    config: StudentConfig | None = None,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> Student:
    """Trains a student on random crops.

    Args:
        samples: pairs of a picture, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8: 1…K, 255 ignored.
        classes: K.
        config: steps, batch, learning rate, widths and seed; None: the defaults.
        tell: called with every hundredth step and its loss.

    Returns:
        The trained student in evaluation mode, the same for the same seed.
    """
    config = config or StudentConfig()
    torch.manual_seed(config.seed)
    random, student = np.random.default_rng(config.seed), Student(classes, config.widths)
    student = student.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=config.rate, weight_decay=1e-3)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * schedule(step / config.steps)
        pixels, labels = draw(samples, config.batch, random)
        loss = F.cross_entropy(student(pixels), labels, ignore_index=IGNORE)
        if labels.ne(IGNORE).any():
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if step % 100 == 99:
            tell(step + 1, loss.item())
    return student.eval()


def schedule(progress: float) -> float:
    """Share of the highest learning rate at `progress` in [0, 1] of the training."""
    return min(1.0, progress / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


def draw(samples: Sequence[Sample], count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draws a batch of `count` crops: (B, 3, CROP, CROP) float and (B, CROP, CROP) int64, classes from 0."""
    crops = [crop(samples[index], random) for index in random.integers(len(samples), size=count)]
    pixels, labels = (torch.cat(planes) for planes in zip(*crops, strict=True))
    return pixels.contiguous(memory_format=torch.channels_last), torch.where(labels == IGNORE, IGNORE, labels - 1)


def crop(sample: Sample, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A square of a picture at a random scale, mirrored half of the time: (1, 3, CROP, CROP), (1, CROP, CROP) int64."""
    image, labels = sample
    side = round(CROP * min(labels.shape) / SHORT / random.uniform(*ZOOM))
    side = min(side, *labels.shape)
    top, left = corner(labels, side, random)
    image, labels = image[top : top + side, left : left + side], labels[top : top + side, left : left + side]
    if random.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    nearest = np.floor((np.arange(CROP) + 0.5) * side / CROP).astype(int)
    truth = torch.from_numpy(labels[nearest[:, None], nearest].astype(np.int64))
    return F.interpolate(to_pixels(image[None]), (CROP, CROP), mode="bilinear", align_corners=False), truth[None]


def corner(labels: np.ndarray, side: int, random: np.random.Generator) -> tuple[int, int]:
    """Top and left of a crop around a pixel of a random category of the picture, so that small things are seen too."""
    present = np.setdiff1d(np.unique(labels), [IGNORE])
    pixels = np.flatnonzero(labels == (random.choice(present) if len(present) else IGNORE))
    top, left = np.array(np.unravel_index(int(random.choice(pixels)), labels.shape)) - random.integers(side, size=2)
    return int(np.clip(top, 0, labels.shape[0] - side)), int(np.clip(left, 0, labels.shape[1] - side))


def to_pixels(images: np.ndarray) -> Tensor:
    """Pictures as the student reads them: uint8 (B, H, W, 3) → float (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(student: Student, image: np.ndarray) -> np.ndarray:
    """Labels a picture: (H, W, 3) uint8 RGB → (H, W) uint8 categories from 1."""
    pixels, short = to_pixels(image[None]), min(image.shape[:2])
    size = [max(CROP // 4, round(side * SHORT / short)) for side in image.shape[:2]]
    small = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    scores = student(small) + student(small.flip(3)).flip(3)  # the mean over the picture and its mirror image
    return (upsample(scores, pixels)[0].argmax(0) + 1).numpy().astype(np.uint8)
