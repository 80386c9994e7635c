"""The eight benchmark protocols: sizes, options and published figures, for both backbones.

    protocol = BENCHMARKS["voc21"]
    config = protocol.settings("ViT-B/16")       # logit scale, thresholds
    category = truth + protocol.first_category   # from the protocol's class index to our category index

A protocol's vocabulary is the built-in one of the same name. Ground truth in shards holds the protocol's own class
indices, 0…C−1, 255 = ignore; `first_category` is 0 where class 0 is a background, else 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Backbone = Literal["ViT-B/16", "ViT-L/14"]
BACKBONES: dict[int, Backbone] = {12: "ViT-B/16", 24: "ViT-L/14"}  # by the number of blocks


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """What differs between protocols and backbones; everything else is the method's default."""

    logit_scale: float = 40.0
    """Factor on the cosines before the softmax over queries."""
    threshold: float = 0.0
    """Confidence below which a pixel becomes background."""
    area_threshold: float = 0.0
    """Share of the non-background area up to which a class is dropped."""


@dataclass(frozen=True)
class Benchmark:
    """One protocol."""

    name: str
    """Also the name of its built-in vocabulary."""
    classes: int
    """C, a background included."""
    images: int
    """Images of the validation split."""
    published: tuple[float, float]
    """Published mIoU in percent, ViT-B/16 and ViT-L/14."""
    background: bool = False
    """Whether class 0 is a background."""
    short_side: int = 336
    """Pixels of the short side after the resize."""
    vit_b16: ProtocolSettings = ProtocolSettings()
    """Settings of ViT-B/16."""
    vit_l14: ProtocolSettings = ProtocolSettings()
    """Settings of ViT-L/14."""

    @property
    def first_category(self) -> int:
        """Category index of the protocol's class 0."""
        return 0 if self.background else 1

    def settings(self, backbone: Backbone) -> ProtocolSettings:
        """Settings of a backbone."""
        return self.vit_b16 if backbone == "ViT-B/16" else self.vit_l14

    def published_miou(self, backbone: Backbone) -> float:
        """Published mIoU of a backbone in percent."""
        return self.published[0 if backbone == "ViT-B/16" else 1]


_VOC21_B16 = ProtocolSettings(logit_scale=50, threshold=0.15, area_threshold=0.1)
_VOC21_L14 = ProtocolSettings(logit_scale=40, threshold=0.2, area_threshold=0.1)
_CONTEXT60 = ProtocolSettings(threshold=0.15)
_OBJECT_B16 = ProtocolSettings(logit_scale=55, threshold=0.35)
_OBJECT_L14 = ProtocolSettings(logit_scale=40, threshold=0.25)

BENCHMARKS: Mapping[str, Benchmark] = {
    protocol.name: protocol
    for protocol in (
        Benchmark("voc21", 21, 1449, (64.6, 65.0), background=True, vit_b16=_VOC21_B16, vit_l14=_VOC21_L14),
        Benchmark("voc20", 20, 1449, (84.3, 88.3)),
        Benchmark("context60", 60, 5105, (36.8, 36.9), background=True, vit_b16=_CONTEXT60, vit_l14=_CONTEXT60),
        Benchmark("context59", 59, 5105, (40.1, 40.6)),
        Benchmark("coco_object", 81, 5000, (37.7, 40.5), background=True, vit_b16=_OBJECT_B16, vit_l14=_OBJECT_L14),
        Benchmark("coco_stuff", 171, 5000, (26.6, 26.9)),
        Benchmark("cityscapes", 19, 500, (41.0, 41.3), short_side=560),
        Benchmark("ade20k", 150, 2000, (20.1, 21.7)),
    )
}
