"""The labeler in a plain loop: pictures decoded at reduced scale get label maps of their own size."""

import io
from typing import Any

import numpy as np
from PIL import Image

from pipeline.chunks import EncodedImage, ResumePoint, encoded_chunk, unnest
from pipeline.decoding import DecodeConfig, decode_chunk
from pipeline.labeled import label_maps
from pipeline.labeling import Labeler, LabelerSpec
from scclip.demo.scenes import scene
from scclip.segmenter import SegmenterConfig
from scclip.vocabulary import Vocabulary, encode_queries
from scclip.weights import ModelConfig, find_weights, load_clip


def jpeg(orientation: int) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(scene(3, 240, 320)[0]).resize((1280, 960), Image.Resampling.BICUBIC)
    large.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def test_reduced_scale_changes_few_labels_and_no_size() -> None:
    """The demo model on a drawn scene, upright and turned, decoded whole and at half scale."""
    loaded = load_clip(find_weights(ModelConfig()))
    vocabulary = Vocabulary.load("demo")
    empty, arrays = loaded.visual().to_arrays()
    windows: dict[str, Any] = dict(loaded.source.windows())
    spec = LabelerSpec(
        empty=empty,
        arrays=arrays,
        text_features=encode_queries(loaded.model, loaded.tokenizer, vocabulary),
        query_category=vocabulary.query_category,
        segmenter=SegmenterConfig(**windows, mean=loaded.mean, std=loaded.std),
        precision="float32",
    )
    images = [EncodedImage(index, f"{index}", f"{index}.jpg", jpeg(turn)) for index, turn in enumerate((1, 6))]
    chunk, maps = encoded_chunk(1, 0, images, ResumePoint(chunk=1, end=True)), []
    for side, height in ((0, [960, 1280]), (480, [480, 640])):
        decoded = decode_chunk(chunk, DecodeConfig(reduced_side=side))
        assert unnest(decoded)["rgb_height"].to_pylist() == height
        rows = unnest(Labeler(spec)(decoded)).to_pylist()
        maps.append([label_maps(row, wide=False).labels for row in rows])
    shares = [(full == reduced).mean() for full, reduced in zip(*maps, strict=True)]
    assert [full.shape for full in maps[0]] == [reduced.shape for reduced in maps[1]] == [(960, 1280), (1280, 960)]
    assert min(shares) > 0.95, shares
    assert all(len(np.unique(labels)) > 2 for labels in maps[0])
