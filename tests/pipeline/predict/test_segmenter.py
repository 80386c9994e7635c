"""The front door for Python: a picture in any form gives the command's labels, and what is none is refused."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scclip import Segmenter, UserError, Vocabulary
from scclip.demo.scenes import scene
from scclip.encoder.config import ModelConfig
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.predict.images import read_image
from scclip.segmentation.segmenter import WindowSegmenter as MethodSegmenter
from scclip.vocabulary.text_features import encode_queries

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """The demo model with its own words."""
    return Segmenter.from_pretrained("demo", vocabulary="demo")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return scene(3_000_000, 120, 160)[0]


def file_of(rgb: np.ndarray, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_form_of_a_picture_has_the_same_labels(segmenter: Segmenter, photo: np.ndarray, tmp_path: Path) -> None:
    data = file_of(photo)
    (tmp_path / "a.png").write_bytes(data)
    one = segmenter(photo)
    forms = [str(tmp_path / "a.png"), tmp_path / "a.png", f"file://{tmp_path}/a.png", data, bytearray(data)]
    forms += [memoryview(data), Image.open(tmp_path / "a.png"), Image.fromarray(photo), photo[:, ::-1][:, ::-1]]
    several = segmenter(forms)
    assert len(several) == len(forms)
    for form, result in zip(forms, several, strict=True):
        np.testing.assert_array_equal(result.labels, one.labels, err_msg=str(type(form)))
        np.testing.assert_array_equal(result.segmentation.confidence, one.segmentation.confidence)
    assert several[0].name == str(tmp_path / "a.png") and len(np.unique(one.labels)) > 2


@pytest.mark.parametrize("exif", ["apply", "ignore"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "turned"])
def test_an_opened_picture_is_read_as_its_file(mode: str, exif: str, photo: np.ndarray) -> None:
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    kind, options = ("JPEG", {"exif": tag}) if mode == "turned" else ("TIFF" if mode == "CMYK" else "PNG", {})
    data = file_of(photo, kind, "RGB" if mode == "turned" else mode, **options)
    config = DecodeConfig(exif=exif)
    opened, read = read_image(Image.open(io.BytesIO(data)), config), decode_image(data, config)
    np.testing.assert_array_equal(opened.rgb, read.rgb)
    turned = mode == "turned" and exif == "apply"
    assert read.size == opened.size == (photo.shape[1::-1] if turned else photo.shape[:2])


REFUSED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "floats": (lambda a: a / 255, "(image * 255).round()"),
    "float32": (lambda a: (a / 255).astype(np.float32), "(image * 255).round()"),
    "large floats": (lambda a: a.astype(float), 'image.astype("uint8")'),
    "grey": (lambda a: a[..., 0], "np.stack([image] * 3, axis=-1)"),
    "one channel": (lambda a: a[..., :1], "np.repeat(image, 3, axis=2)"),
    "alpha": (lambda a: np.dstack([a, a[..., 0]]), "image[..., :3]"),
    "channels first": (lambda a: a.transpose(2, 0, 1), "image.transpose(1, 2, 0)"),
    "a batch": (lambda a: a[None], "list(images)"),
    "rows": (lambda a: list(a), "not list(image)"),
    "numbers": (lambda a: a[:2, :2].tolist(), "list is no picture"),
    "16 bits": (lambda a: a.astype(np.uint16) * 257, "image >> 8"),
    "bool": (lambda a: a > 99, "* 255"),
    "nothing": (lambda a: a[:0], "no pixels"),
    "a tensor": (lambda a: torch.from_numpy(a).permute(2, 0, 1), "permute(1, 2, 0)"),
    "a folder": (lambda a: Path("/"), "scclip label"),
    "no file": (lambda a: "nowhere.jpg", "check the path"),
    "text": (lambda a: b"hello", "not an image"),
    "no bytes": (lambda a: b"", "0 bytes"),
    "an empty list": (lambda a: [], "empty list"),
    "the second": (lambda a: [a, a / 255], "picture 1 of 2"),
    "none": (lambda a: None, "a path, a URL"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line_with_the_remedy(
    kind: str, segmenter: Segmenter, photo: np.ndarray
) -> None:
    make, remedy = REFUSED[kind]
    with pytest.raises(UserError) as refused:
        segmenter(make(photo))
    assert remedy in str(refused.value) and "\n" not in str(refused.value)


def test_each_remedy_for_an_array_gives_the_labels_of_its_picture(segmenter: Segmenter, photo: np.ndarray) -> None:
    """What the messages say to write is run, on the array that was refused."""
    wanted = segmenter(photo).labels
    for kind in ("floats", "float32", "large floats", "alpha", "channels first", "16 bits"):
        array = REFUSED[kind][0](photo)
        with pytest.raises(UserError) as refused:
            segmenter(array)
        (remedy,) = re.findall(r"(?:give|then) (\(?image.*?)(?: where it.*)?$", str(refused.value))
        np.testing.assert_array_equal(segmenter(eval(remedy, {"image": array})).labels, wanted, err_msg=kind)


@pytest.mark.parametrize("wrong", ["one array", "floats"])
def test_the_method_itself_refuses_them_too(wrong: str, segmenter: Segmenter, photo: np.ndarray) -> None:
    given = photo if wrong == "one array" else [photo / 255]
    with pytest.raises(UserError, match=r"give \[image\]" if wrong == "one array" else "255"):
        segmenter.labeler.segmenter.segment(given)  # type: ignore[arg-type]


def test_other_words_keep_the_weights(segmenter: Segmenter, photo: np.ndarray) -> None:
    """The same tower lies under both; labels are those of a segmenter that is put together by hand."""
    words = Vocabulary({"sky": [], "plant": ["tree", "grass", "flower"]}, threshold=0.505)
    with pytest.warns(UserWarning, match="demo model knows"):
        other = segmenter.with_vocabulary(words)
    assert other.labeler.segmenter.model is segmenter.labeler.segmenter.model
    clip, tower = other.clip, other.labeler.segmenter.model
    features = encode_queries(clip.model, clip.tokenizer, words)
    by_hand = MethodSegmenter(tower, features, (1, 2, 2, 2), other.config)
    assert other.config.confidence_threshold == 0.505
    np.testing.assert_array_equal(other(photo).labels, by_hand.segment([photo])[0].labels)
    assert set(np.unique(other(photo).labels)) == {1, 2, 255} and set(other(photo).masks) == {"sky", "plant"}
    np.testing.assert_array_equal(segmenter(photo).labels, segmenter.with_vocabulary("demo")(photo).labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shortside": 560}, "did you mean short_side"),
        ({"actors": 2}, "scclip label --help"),
        ({"device": "mps"}, "choose auto, cpu or cuda"),
        ({"vocabulary": "vok21"}, 'did you mean "voc21"'),
        ({"vocabulary": ["car, sedan"]}, r"\{'car': \['car', 'sedan'\]\}"),
        ({"vocabulary": ["car", "Car"]}, "there already"),
        ({"vocabulary": []}, "no class at all"),
        ({"vocabulary": [3]}, "is no text"),
        ({"model": "ViT-B-61", "pretrained": "openai"}, "ViT-B-16"),
        ({"stride": 500}, "larger than window"),
        ({"method": "magic"}, "choose scclip"),
        ({"exif": "perhaps"}, "apply or ignore"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter.from_pretrained(**{"vocabulary": "demo", **settings})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(UserError, match='give device="cpu"'):
        Segmenter.from_pretrained(vocabulary="demo", device="cuda")


def test_settings_are_those_of_the_command(photo: np.ndarray) -> None:
    """Names, defaults and meaning of `scclip label`'s own flags."""
    from scclip.jobs.options.label import LabelOptions, parser
    from scclip.jobs.setup.labeling import LabelingSetup
    from scclip.pipeline.cluster.resources import ComputeConfig
    from scclip.pipeline.labeling.models import find_model, load_vocabulary

    flags = ["--method", "maskclip", "--short-side", "280", "--confidence-threshold", "0.4", "--precision", "float32"]
    options, model, segmentation, _ = parser().parse(["in", "out", "--vocabulary", "demo", *flags])
    setup = LabelingSetup(
        options, find_model(model, False), segmentation, ComputeConfig(), load_vocabulary("demo"), False
    )
    given = {"method": "maskclip", "short_side": 280, "confidence_threshold": 0.4, "precision": "float32"}
    segmenter = Segmenter.from_pretrained(vocabulary="demo", device="cpu", **given)
    assert setup.segmenter == segmenter.config  # the demo model's mean and deviation are CLIP's
    assert setup.source.config == segmenter.clip.source.config
    assert LabelOptions(inputs=("in",), output="out").exif == segmenter.decode.exif
    assert ModelConfig().model == "demo" and set(np.unique(segmenter(photo).labels)) - set(range(1, 15)) <= {255}


def test_it_neither_imports_nor_starts_ray() -> None:
    code = (
        "import sys, numpy as np\nfrom scclip import Segmenter\n"
        "s = Segmenter.from_pretrained('demo', vocabulary='demo')\n"
        "s(np.zeros((40, 50, 3), np.uint8)).overlay()\nassert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
