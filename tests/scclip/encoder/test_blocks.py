"""A tower in modules of its own against open_clip's: equal bits, shared weights, and no open_clip where it arrives."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from towers import SMALL16, clip, model_config

from scclip.encoder.blocks import Block, Tower, own_tower
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.pipeline.labeling.labeler import LabelerSpec
from scclip.segmentation.types import SegmenterConfig

KINDS = {
    "QuickGELU": {},
    "GELU": {"quick_gelu": False},
    "scaled": {"vision_cfg": {**model_config(SMALL16)["vision_cfg"], "ls_init_value": 0.1}},
    "dropped in training": {"vision_cfg": {**model_config(SMALL16)["vision_cfg"], "patch_dropout": 0.5}},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_norms_give_equal_bits(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    visual = open_clip.CLIP(**{**model_config(SMALL16), **KINDS[kind]}).visual.eval().to(dtype)
    own = own_tower(visual)
    assert type(visual) is VisionTransformer and type(own) is Tower
    assert all(isinstance(block, Block) for block in own.transformer.resblocks)
    tokens = torch.randn(2, 5, SMALL16["width"]).to(dtype)
    with torch.inference_mode():
        for theirs, mine in zip(visual.transformer.resblocks, own.transformer.resblocks, strict=True):
            expected = theirs(tokens)
            assert torch.equal(mine(tokens), expected)
            tokens = expected
        for name in ("ln_pre", "ln_post"):
            assert torch.equal(getattr(own, name)(tokens), getattr(visual, name)(tokens))
    theirs, mine = visual.state_dict(keep_vars=True), own.state_dict(keep_vars=True)
    assert theirs.keys() == mine.keys() and all(mine[name] is tensor for name, tensor in theirs.items())


def test_the_model_that_was_given_stays_as_it_is() -> None:
    side = SMALL16["input_resolution"]
    model, pixels = clip(), torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model.encode_image(pixels)
        tower = SelfCalibratedCLIP(model.visual)
        assert SelfCalibratedCLIP(tower.visual).visual is tower.visual
        assert torch.equal(model.encode_image(pixels), expected)


def test_where_a_tower_arrives_open_clip_is_not_imported(tmp_path: Path) -> None:
    model = clip()
    empty, arrays = SelfCalibratedCLIP(model.visual).to_arrays()
    text = np.eye(2, SMALL16["output_dim"], dtype=np.float32)
    spec = LabelerSpec(
        empty=empty, arrays=arrays, text_features=text, query_category=(1, 2), segmenter=SegmenterConfig(),
        precision="float32",
    )  # fmt: skip
    image = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    (tmp_path / "spec").write_bytes(pickle.dumps((spec, image)))
    code = (
        "import pickle, sys\n"
        "spec, image = pickle.load(open(sys.argv[1], 'rb'))\n"
        "labels = spec.build().segment([image])[0].labels\n"
        "sys.stdout.buffer.write(labels.tobytes())\n"
        "assert not {'open_clip', 'torchvision', 'timm'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "spec")], capture_output=True, check=True)
    assert ran.stdout == spec.build().segment([image])[0].labels.tobytes()
