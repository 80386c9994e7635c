"""Text features of a vocabulary's queries: each query goes through every template, the features are averaged.

    text_features = encode_queries(model, tokenizer, vocabulary)   # (Q, E)

Shapes: Q queries, T templates, P = Q·T prompts, L tokens, D width of the text tower, E joint embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scclip.vocabulary.lint import VocabularyError, fill

if TYPE_CHECKING:
    from scclip.vocabulary.vocabulary import Vocabulary

QUERIES_AT_ONCE = 64  # × 80 templates = 5,120 prompts: sorting by length pays, memory stays at a few MB
_TOWER_PARTS = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection", "attn_mask")


@torch.inference_mode()
def encode_queries(model: Any, tokenizer: Any, vocabulary: Vocabulary, batch_size: int = 256) -> np.ndarray:
    """Encodes a vocabulary's queries: normalised features of all templates, averaged and normalised again.

    Args:
        model: an open_clip model in any dtype on any device.
        tokenizer: the model's tokenizer.
        vocabulary: queries and templates.
        batch_size: prompts in one forward pass.

    Returns:
        (Q, E) float32 of unit norm, in the order of `vocabulary.queries`.

    Raises:
        VocabularyError: a prompt is longer than the model's context.
    """
    unique = list(dict.fromkeys(vocabulary.queries))
    groups = [unique[start : start + QUERIES_AT_ONCE] for start in range(0, len(unique), QUERIES_AT_ONCE)]
    features = np.concatenate([_encode_group(model, tokenizer, g, vocabulary.templates, batch_size) for g in groups])
    row = {query: index for index, query in enumerate(unique)}
    return features[[row[query] for query in vocabulary.queries]]


def _encode_group(model: Any, tokenizer: Any, queries: list[str], templates: tuple[str, ...], batch: int) -> np.ndarray:
    """Features of some queries, (Q, E) float32 of unit norm."""
    prompts = [fill(template, query) for query in queries for template in templates]
    tokens_PL = tokenizer(prompts)
    _check_context(tokenizer, prompts, tokens_PL)
    order = torch.argsort(tokens_PL.argmax(dim=-1), stable=True)  # by length, so that a batch pads to little
    device = next(model.parameters()).device
    encoded = [_encode_tokens(model, tokens_PL[rows].to(device)).float() for rows in order.split(batch)]
    features_PE = torch.nn.functional.normalize(torch.cat(encoded), dim=-1)[torch.argsort(order).to(device)]
    mean_QE = features_PE.unflatten(0, (len(queries), len(templates))).mean(dim=1)
    return torch.nn.functional.normalize(mean_QE, dim=-1).cpu().numpy()


def _check_context(tokenizer: Any, prompts: Sequence[str], tokens_PL: torch.Tensor) -> None:
    """Raises `VocabularyError` for a prompt that open_clip's tokenizer has cut, which it does without a word.

    A row of tokens that is full to its end is one that may have been cut.
    """
    context = tokens_PL.shape[1]
    for row in tokens_PL[:, -1].nonzero().flatten().tolist() if hasattr(tokenizer, "encode") else ():
        if (tokens := len(tokenizer.encode(prompts[row])) + 2) > context:
            raise VocabularyError(f'prompt "{prompts[row]}": {tokens} tokens, this model reads {context}; shorten it')


def _encode_tokens(model: Any, tokens_PL: torch.Tensor) -> torch.Tensor:
    """Does what `model.encode_text` does: (P, L) int64 → (P, E).

    In a causal tower no token sees a later one, so what follows the batch's last end token is left out.
    """
    tower = _causal_tower(model)
    if tower is None:
        return model.encode_text(tokens_PL)
    end_P = tokens_PL.argmax(dim=-1)  # the end token has the highest id
    length = int(end_P.max()) + 1
    dtype = tower.transformer.get_cast_dtype()
    x_PLD = tower.token_embedding(tokens_PL[:, :length]).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x_PLD = tower.ln_final(tower.transformer(x_PLD, attn_mask=tower.attn_mask[:length, :length]))
    x_PD = x_PLD[torch.arange(len(end_P), device=end_P.device), end_P]
    if tower.text_projection is None:
        return x_PD
    return tower.text_projection(x_PD) if callable(tower.text_projection) else x_PD @ tower.text_projection


def _causal_tower(model: Any) -> Any | None:
    """The part of an open_clip model that encodes text, if it is causal and reads the end token; else None."""
    from open_clip.model import CustomTextCLIP

    tower = model.text if isinstance(model, CustomTextCLIP) else model
    if not all(hasattr(tower, part) for part in _TOWER_PARTS) or tower.attn_mask is None:
        return None
    reads_end = getattr(tower, "text_pool_type", getattr(tower, "pool_type", "")) == "argmax"
    plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    future = torch.ones_like(tower.attn_mask, dtype=torch.bool).triu(1)
    causal = bool((tower.attn_mask[future] == float("-inf")).all())
    return tower if reads_end and plain and causal else None
