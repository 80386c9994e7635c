"""The method's steps against naive loops written from their description."""

import numpy as np
import pytest
import torch
from towers import clip

from scclip.encoder.calibration import (
    CalibrationConfig,
    aggregation_weights,
    calibrated_attention,
    cosine_similarities,
    find_anomalies,
    most_anomalies,
    outlier_factors,
    repair,
    repair_rows,
    similarity_attention,
)


def naive_outlier_factors(x: np.ndarray) -> np.ndarray:
    count = len(x)
    k = min(30, count - 1)
    d = np.array([[np.sum((a - b) ** 2) for b in x] for a in x])
    near = [[j for j in np.argsort(d[i], kind="stable") if j != i][:k] for i in range(count)]
    k_distance = [d[i][near[i][-1]] for i in range(count)]
    reach = [[max(d[i][j], k_distance[i]) for j in near[i]] for i in range(count)]
    lrd = [k / np.mean(reach[i]) for i in range(count)]
    return np.array([np.mean([lrd[j] / lrd[i] for j in near[i]]) for i in range(count)])


@pytest.mark.parametrize("count", [3, 31, 77, 120])
def test_outlier_factors_equal_the_definition(count: int) -> None:
    x = torch.randn(2, count, 9, generator=torch.Generator().manual_seed(count))
    expected = np.stack([naive_outlier_factors(image.double().numpy()) for image in x])
    np.testing.assert_allclose(outlier_factors(x).numpy(), expected, rtol=1e-4)
    anomalous = expected > np.quantile(expected, 0.95, axis=1, keepdims=True)
    np.testing.assert_array_equal(find_anomalies(x).numpy(), anomalous)


@pytest.mark.parametrize("count", [*range(3, 80), 196, 257, 1025])
def test_no_image_has_more_anomalies_than_room_is_made_for(count: int) -> None:
    x = torch.randn(4, count, 5, generator=torch.Generator().manual_seed(count))
    assert int(find_anomalies(x).sum(1).max()) <= most_anomalies(count) <= max(2, 0.05 * count + 1.96)


@pytest.mark.parametrize("count", [1, 2])
def test_few_patches_have_no_anomalies(count: int) -> None:
    assert not find_anomalies(torch.randn(3, count, 4)).any()


def test_repair_averages_the_sound_neighbours() -> None:
    grid, generator = (4, 7), torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 28, 5, generator=generator)
    anomalous = torch.rand(2, 28, generator=generator) < 0.5
    anomalous[1] = True  # nobody is sound: everything stays
    repaired = repair(tokens, repair_rows(anomalous, grid, 28))
    for image in range(2):
        for y in range(4):
            for x in range(7):
                around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
                inside = [v * 7 + u for v, u in around if 0 <= v < 4 and 0 <= u < 7]
                sound = [i for i in inside if not anomalous[image, i]]
                here = y * 7 + x
                mend = anomalous[image, here] and sound
                expected = tokens[image, sound].mean(0) if mend else tokens[image, here]
                torch.testing.assert_close(repaired[image, here], expected)


def test_attention_equals_a_loop_over_heads_and_inputs() -> None:
    block = clip().visual.transformer.resblocks[-1]
    generator = torch.Generator().manual_seed(4)
    first, second = (torch.randn(2, 20, 128, generator=generator) for _ in range(2))
    residual = torch.randn(2, 128, generator=generator)
    similarity = cosine_similarities(torch.randn(2, 20, 128, generator=generator))
    fast = calibrated_attention(block, (first, second), residual, similarity, "kk+similarity")
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    for image in range(2):
        centred = similarity[image] - similarity[image].mean()
        rows = torch.where(centred < 0, torch.tensor(-torch.inf), 3 * centred).softmax(-1)
        total = torch.zeros(20, 128)
        for tokens in (first[image], second[image]):
            normed = block.ln_1(tokens)
            key, value = (normed @ weight[128 * i : 128 * (i + 1)].T + bias[128 * i : 128 * (i + 1)] for i in (1, 2))
            heads = []
            for head in range(2):
                part = slice(64 * head, 64 * (head + 1))
                kk = (key[:, part] @ key[:, part].T / 8).softmax(-1)
                heads.append(0.5 * (kk + rows) @ value[:, part])
            total += torch.cat(heads, 1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        torch.testing.assert_close(fast[image], total + residual[image], rtol=1e-4, atol=1e-4)


def test_similarity_steps_are_per_image() -> None:
    similarity = cosine_similarities(torch.randn(5, 30, 8, generator=torch.Generator().manual_seed(2)))
    for function in (similarity_attention, lambda s: aggregation_weights(s, 0.4)):
        alone = torch.cat([function(similarity[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(function(similarity), alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("count", [2, 7, 30, 199])
def test_equal_patches_attend_to_themselves(count: int) -> None:
    """Rounding may put every similarity below their mean; each patch then still attends to itself."""
    weights = similarity_attention(cosine_similarities(torch.full((1, count, 48), 0.7)))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, count))


@pytest.mark.parametrize(
    "wrong",
    [
        {"attention": "qq"},
        {"attention": "qk"},
        {"fused_layers": (9, 3)},
        {"similarity_layer": -1},
        {"similarity_threshold": 2},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"attention|fused|layer|threshold"):
        CalibrationConfig(**wrong)
