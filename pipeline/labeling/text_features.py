"""Text features of a vocabulary, encoded once on a machine and kept in the user's cache folder for every later run.

features = text_features(clip, vocabulary, cuda=True)  # (Q, E)
"""

import contextlib
import hashlib
import io
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from scclip.encoder.checkpoints import LoadedCLIP
from scclip.pipeline.labeling.models import cache_folder
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary

LIBRARIES = ("scclip-pipeline", "open_clip_torch", "torch")  # another version may round otherwise
SEAL_BYTES = 32  # at the head of a cached file: SHA-256 of its key and of what follows


def text_features(clip: LoadedCLIP, vocabulary: Vocabulary, cuda: bool = False) -> np.ndarray:
    """Returns what `encode_queries` returns, from the user's cache where it was encoded before.

    A cached file that is broken is made anew; a cache folder that cannot be used is done without.

    Args:
        clip: the loaded model, on the CPU; it is there again afterwards.
        vocabulary: queries and templates.
        cuda: whether this machine's GPU may encode, if it has one. Where only other nodes have one the CPU encodes:
            the text tower, up to a gigabyte, would have to travel for a result that is then kept.

    Raises:
        VocabularyError: a prompt is longer than the model's context.
    """
    device = "cuda" if cuda and torch.cuda.is_available() else "cpu"
    key = features_key(clip, vocabulary, device)
    features = read_cached(key)
    if features is None:
        try:
            features = encode_on(device, clip, vocabulary)
        except RuntimeError:  # the GPU is full, or belongs to another process
            if device == "cpu":
                raise
            return text_features(clip, vocabulary)
        write_cached(key, features)
    return features


def features_key(clip: LoadedCLIP, vocabulary: Vocabulary, device: str) -> str:
    """Returns a digest (hex) of all that text features depend on: weights, architecture, prompts and arithmetic."""
    source, name = clip.source, clip.source.open_clip_name
    facts = {
        "weights": source.digest,  # of a directory it holds the architecture as well
        "architecture": "" if name.startswith("local-dir:") else name,
        "quick_gelu": source.quick_gelu,
        "tokens": clip.tokenizer(
            [*vocabulary.queries, *vocabulary.templates]
        ).tolist(),  # tells one tokenizer by another
        "queries": vocabulary.queries,
        "templates": vocabulary.templates,
        "device": device,
        "versions": {library: version(library) for library in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def encode_on(device: str, clip: LoadedCLIP, vocabulary: Vocabulary) -> np.ndarray:
    """Encodes in float32 on a device, and leaves the model on the CPU and the device's memory free."""
    if device == "cpu":
        return encode_queries(clip.model, clip.tokenizer, vocabulary)
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    try:
        return encode_queries(clip.model.to(device), clip.tokenizer, vocabulary)
    finally:
        clip.model.to("cpu")
        torch.cuda.empty_cache()


def cached_file(key: str) -> Path:
    """Returns where the features of a key are kept; OSError where the user has no cache folder."""
    return cache_folder() / "text_features" / key


def read_cached(key: str) -> np.ndarray | None:
    """Returns the features of a key; None where there are none, or the file is broken or another key's."""
    try:
        content = cached_file(key).read_bytes()
    except OSError:
        return None
    seal, data = content[:SEAL_BYTES], content[SEAL_BYTES:]
    if seal != seal_of(key, data):
        return None
    features: np.ndarray = np.load(io.BytesIO(data))
    return features


def write_cached(key: str, features: np.ndarray) -> None:
    """Keeps the features of a key, whole or not at all; does nothing where the folder cannot be written."""
    buffer = io.BytesIO()
    np.save(buffer, features)
    with contextlib.suppress(OSError):
        file = cached_file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
            partial = Path(folder, key)
            partial.write_bytes(seal_of(key, buffer.getvalue()) + buffer.getvalue())
            partial.replace(file)


def seal_of(key: str, data: bytes) -> bytes:
    """Returns what tells a whole file of this key from any other."""
    return hashlib.sha256(key.encode() + data).digest()
