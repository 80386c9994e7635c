"""Finds what a job labels with: weights and vocabularies by name, path or URL.

source = find_model(ModelConfig(model="ViT-B-16-quickgelu", pretrained="s3://bucket/clip.pt"), cuda=True)
vocabulary = load_vocabulary("s3://bucket/street.yaml")
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from scclip.documents import MAX_BYTES
from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.pipeline.storage.files import info, open_stream, read_start
from scclip.pipeline.storage.secrets import public_url
from scclip.vocabulary.vocabulary import Vocabulary, VocabularyClass

if TYPE_CHECKING:
    from scclip.encoder.checkpoints import WeightsSource

Words: TypeAlias = str | os.PathLike[str] | Vocabulary | Iterable[str | VocabularyClass] | Mapping[str, Iterable[str]]


def load_vocabulary(source: Words) -> Vocabulary:
    """The vocabulary of a built-in name, a local file or any fsspec URL; of names, or names with their synonyms."""
    if isinstance(source, Vocabulary):
        return source
    if not isinstance(source, str | os.PathLike):
        return Vocabulary(source)
    source = os.fspath(source)
    if "://" not in source:
        return Vocabulary.load(source)
    try:
        return Vocabulary.parse(read_start(source, MAX_BYTES + 1), public_url(source).partition("?")[0])
    except OSError as error:
        raise UserError(f"vocabulary {source} cannot be read: {error}; check the URL") from None


def load_warnings(model: ModelConfig, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Returns warnings about a vocabulary, and about a model that does not fit it, one line each."""
    if model.model != "demo" or vocabulary.name == "demo":
        return vocabulary.warnings
    what = f"the demo model knows drawn scenes and the vocabulary 'demo' only, not {vocabulary.name!r}"
    remedy = "for photographs give a model, e.g. --model ViT-B-16-quickgelu --pretrained openai"
    return (f"{what}; {remedy}", *vocabulary.warnings)


def find_model(config: ModelConfig, cuda: bool) -> "WeightsSource":
    """Finds the weights, fetched into the user's cache where they are a URL, and settles the precision `auto`."""
    from scclip.encoder.checkpoints import find_weights, resolve_precision  # with PyTorch; vocabularies need none

    if config.pretrained is not None and "://" in config.pretrained:
        config = replace(config, pretrained=str(fetch(config.pretrained)))
    source = find_weights(config)
    return replace(source, config=replace(source.config, precision=resolve_precision(config.precision, cuda)))


def fetch(url: str) -> Path:
    """Copies a remote file into the user's cache, once for each URL and version; returns its path."""
    try:
        remote = info(url)
        public = public_url(url)
        identity = hashlib.sha256(f"{public} {remote.size} {remote.version}".encode()).hexdigest()[:24]
        folder = cache_folder() / identity
        target = folder / public.partition("?")[0].rsplit("/", 1)[1]
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file, open_stream(url, size=remote.size) as stream:
                while block := stream.read(1 << 22):
                    file.write(block)
            partial.rename(target)
        return target
    except OSError as error:
        raise UserError(f"weights {url} cannot be fetched: {error}; check the URL and its credentials") from None


def cache_folder() -> Path:
    """Returns this program's folder among the user's caches, which may not exist; OSError where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scclip"
    except RuntimeError as error:  # of a container's user that the system does not know
        raise OSError(str(error)) from None
