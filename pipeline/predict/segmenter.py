"""A model and a vocabulary, ready to label pictures from Python with exactly the settings of `scclip label`.

    segmenter = Segmenter.from_pretrained("ViT-B-16-quickgelu", "openai", vocabulary=["car", "road"])
    result = segmenter("photo.jpg")                        # a SegmentedImage
    results = segmenter([image, "s3://bucket/b.jpg"])      # a list of them
    segmenter.with_vocabulary("voc21")("photo.jpg")        # other words, the same weights

Labels equal those of the command for the same model, vocabulary, options and kind of hardware, bit for bit.
"""

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, overload

import torch

from scclip.categories import Categories
from scclip.encoder.checkpoints import LoadedCLIP, load_clip
from scclip.encoder.config import ModelConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import ModelError, UserError
from scclip.pipeline.inputs.decoding import DecodeConfig
from scclip.pipeline.labeling.labeler import LabelerSpec, MapLabeler
from scclip.pipeline.labeling.models import Words, find_model, load_vocabulary, load_warnings
from scclip.pipeline.labeling.text_features import text_features
from scclip.pipeline.predict.images import Picture, name_of, read_images
from scclip.pipeline.predict.result import SegmentedImage
from scclip.segmentation import segmenter as segmentation
from scclip.segmentation.settings import segmenter_config
from scclip.segmentation.types import SegmentationOptions, SegmenterConfig
from scclip.vocabulary.vocabulary import Vocabulary
from scclip.wording import counted

Device = Literal["auto", "cpu", "cuda"]

AT_ONCE = 32  # pictures of a list that are decoded before the model sees them


@dataclass(frozen=True)
class Segmenter:
    """Labels pictures. Make one with `Segmenter.from_pretrained`; it may be called from several threads."""

    clip: LoadedCLIP
    """The model with both towers, on the CPU."""
    vocabulary: Vocabulary
    """The words it looks for."""
    labeler: MapLabeler
    """The vision tower on its device, as an actor of the command holds it."""
    options: SegmentationOptions
    """What was asked for; the rest comes from the vocabulary and the model."""
    decode: DecodeConfig
    """How files are decoded."""

    @staticmethod
    def from_pretrained(
        model: str = ModelConfig.model,
        pretrained: str | None = None,
        *,
        vocabulary: Words,
        device: Device = "auto",
        exif: str = DecodeConfig.exif,
        **settings: Any,
    ) -> "Segmenter":
        """Loads a model; what needs a download is fetched once and kept.

        Args:
            model: open_clip's name (ViT-B-16-quickgelu, …), local-dir:PATH, hf-hub:ORG/NAME, or demo.
            pretrained: open_clip's tag (openai, …) or a weights file, a path or any fsspec URL.
            vocabulary: class names in a list; a mapping of names to their synonyms; a built-in name, a path or a URL
                of a .txt or .yaml file; or a `Vocabulary`.
            device: cpu or cuda; auto takes the GPU where there is one.
            exif: turn pictures as their EXIF orientation says, or leave them as stored.
            settings: any other option of `scclip label` for model and segmentation, with _ for -: method, precision,
                short_side, confidence_threshold, …

        Returns:
            The segmenter. What the vocabulary's check found is issued as warnings, as the command prints it.

        Raises:
            UserError: model, vocabulary, device or a setting is wrong; one line with the remedy.
        """
        cuda = use_gpu(device)
        chosen, options = settings_of(settings, model=model, pretrained=pretrained)
        words = load_vocabulary(vocabulary)
        tell(load_warnings(chosen, words))
        clip = load_clip(find_model(chosen, cuda))
        return _segmenter(clip, words, options, DecodeConfig(exif=exif), "cuda" if cuda else "cpu")

    def with_vocabulary(self, vocabulary: Words) -> "Segmenter":
        """A segmenter for other words, as `from_pretrained` takes them, with the same weights and settings."""
        words, tower = load_vocabulary(vocabulary), self.labeler.segmenter.model
        tell(load_warnings(self.clip.source.config, words))
        return _segmenter(self.clip, words, self.options, self.decode, tower.device.type, tower)

    @property
    def categories(self) -> Categories:
        """Category index → name, of the numbers in label maps."""
        return self.vocabulary.categories

    @property
    def config(self) -> SegmenterConfig:
        """How pictures are cut, scored and thresholded."""
        return self.labeler.segmenter.config

    @overload
    def __call__(self, pictures: Picture) -> SegmentedImage: ...  # type: ignore[overload-overlap]  # str, a Sequence
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[SegmentedImage]: ...
    def __call__(self, pictures: Picture | Sequence[Picture]) -> SegmentedImage | list[SegmentedImage]:
        """Labels one picture, or a list of them, of any sizes.

        Args:
            pictures: a path, a URL, the bytes of a file, a PIL image, or a uint8 RGB array (H, W, 3); or a list.

        Returns:
            A `SegmentedImage`; a list of them, in order, for a list.

        Raises:
            UserError: a picture cannot be read or is none; one line with the remedy.
        """
        if not isinstance(pictures, list | tuple):
            return self._label([pictures])[0]  # type: ignore[list-item]
        if not pictures:
            raise UserError("an empty list of pictures; check what was listed")
        batches = (pictures[first : first + AT_ONCE] for first in range(0, len(pictures), AT_ONCE))
        return [result for batch in batches for result in self._label(batch)]

    def _label(self, pictures: Sequence[Picture]) -> list[SegmentedImage]:
        decoded = list(read_images(pictures, self.decode))
        results = self.labeler.segment([pixels.rgb for pixels in decoded], [pixels.size for pixels in decoded])
        labeled = []
        for picture, pixels, result in zip(pictures, decoded, results, strict=True):
            if isinstance(result, Exception):
                raise result
            labeled.append(SegmentedImage(pixels.rgb, result[0], self.categories, name_of(picture)))
        return labeled

    def __repr__(self) -> str:
        model = self.clip.source.config
        names = " ".join(filter(None, [model.model, model.pretrained, model.precision]))
        words = f"{counted(len(self.vocabulary.classes), 'class')} of {self.vocabulary.name!r}"
        return f"Segmenter({names} on {self.labeler.segmenter.device.type}, {words})"


def _segmenter(
    clip: LoadedCLIP,
    vocabulary: Vocabulary,
    options: SegmentationOptions,
    decode: DecodeConfig,
    device: str,
    tower: SelfCalibratedCLIP | None = None,
) -> Segmenter:
    """A segmenter of a loaded model; with a `tower` that lies on its device already, its weights are shared."""
    cuda = device == "cuda"
    config = segmenter_config(options, vocabulary, clip.source, cuda)
    spec = LabelerSpec.of(clip, vocabulary, text_features(clip, vocabulary, cuda), config, device)
    if tower is None:
        return Segmenter(clip, vocabulary, MapLabeler(spec.build()), options, decode)
    shared = segmentation.WindowSegmenter(tower, spec.text_features, spec.query_category, spec.segmenter)
    return Segmenter(clip, vocabulary, MapLabeler(shared), options, decode)


def use_gpu(device: str) -> bool:
    """Whether the model lies on the GPU; UserError for a device that is unknown or not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {device!r} is unknown; choose auto, cpu or cuda (which GPU: CUDA_VISIBLE_DEVICES)")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise ModelError('device "cuda": PyTorch sees no GPU; check the driver, or give device="cpu"')
    return present and device != "cpu"


def settings_of(settings: dict[str, Any], **model: Any) -> tuple[ModelConfig, SegmentationOptions]:
    """Settings by the names of the command's options, sorted; UserError for a name that it does not have."""
    known = [{field.name for field in fields(kind)} for kind in (ModelConfig, SegmentationOptions)]
    for name in settings:
        if name not in known[0] | known[1]:
            near = difflib.get_close_matches(name, known[0] | known[1], n=1)
            hint = f"did you mean {near[0]}?" if near else "see scclip label --help"
            raise UserError(f"setting {name!r} is unknown; {hint}")
    of_model, of_windows = ({name: settings[name] for name in names & settings.keys()} for names in known)
    return replace(ModelConfig(**of_model), **model), SegmentationOptions(**of_windows)


def tell(lines: Sequence[str]) -> None:
    """Issues a warning for each line, at the place of the caller's caller."""
    for line in lines:
        warnings.warn(line, stacklevel=3)
