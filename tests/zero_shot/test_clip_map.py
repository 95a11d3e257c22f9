"""V-V attention, the second path and patch-text scores beside loops; and where in a photograph a patch is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn import normal, texture
from torch.nn import functional as F

from stlm_hub.errors import ConfigError
from stlm_hub.predict.frame import to_frame
from stlm_hub.zero_shot.clip_map import (
    Seen,
    chosen_layers,
    embeddings,
    probability,
    see,
    text_embeddings,
    value_attention,
)
from stlm_hub.zero_shot.clip_weights import Clip


def looped_attention(attention: torch.nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """Head by head and token by token."""
    width, heads = attention.embed_dim, attention.num_heads
    d = width // heads
    v = x @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
    gathered = torch.zeros_like(x)
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            for i in range(x.shape[1]):
                weights = [math.exp(float(v[b, i, part] @ v[b, j, part]) / math.sqrt(d)) for j in range(x.shape[1])]
                for j, weight in enumerate(weights):
                    gathered[b, i, part] += weight / sum(weights) * v[b, j, part]
    return gathered @ attention.out_proj.weight.T + attention.out_proj.bias


@torch.inference_mode()
def test_values_attend_to_values(clip: Clip) -> None:
    attention = clip.model.visual.transformer.resblocks[2].attn
    x = normal(2, 5, 64)
    torch.testing.assert_close(value_attention(attention, x), looped_attention(attention, x), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_patches_gather_from_the_tokens_of_the_usual_path(clip: Clip) -> None:
    """y_i = y_(i-1) + A_i(x_(i-1)); the whole is what CLIP itself says of the photograph."""
    visual, pixels = clip.model.visual, normal(2, 3, 72, 72)
    tokens: list[torch.Tensor] = []
    blocks = visual.transformer.resblocks
    hooks = [block.register_forward_pre_hook(lambda _, given: tokens.append(given[0].clone())) for block in blocks]
    expected_whole = clip.model.encode_image(pixels, normalize=True)
    for hook in hooks:
        hook.remove()
    patches, whole = embeddings(visual, pixels, (2, 3, 4))
    torch.testing.assert_close(whole, expected_whole)
    path = tokens[1]  # what the second layer is given
    for i in (2, 3, 4):
        block = blocks[i - 1]
        path = path + value_attention(block.attn, block.ln_1(tokens[i - 1]))
        expected = F.normalize(visual.ln_post(path)[:, 1:] @ visual.proj, dim=-1)
        torch.testing.assert_close(patches[i - 2], expected, atol=1e-5, rtol=1e-4)
    alone = embeddings(visual, pixels[1:], (2, 3, 4))[0]
    torch.testing.assert_close(alone[:, 0], patches[:, 1], atol=1e-5, rtol=1e-4)


def test_scores_are_the_softmax_of_both_similarities() -> None:
    text = F.normalize(normal(2, 6, seed=1), dim=-1)
    embedded = F.normalize(normal(3, 2, 5, 6, seed=2), dim=-1)
    found = probability(embedded, text, 14.0)
    assert found.shape == (3, 2, 5)
    for index in np.ndindex(3, 2, 5):
        good, bad = (math.exp(14 * sum(float(a * b) for a, b in zip(embedded[index], t, strict=True))) for t in text)
        assert float(found[index]) == pytest.approx(bad / (good + bad), abs=1e-5)
    assert float(probability(F.normalize(text.sum(0), dim=0), text, 100.0)) == pytest.approx(0.5, abs=1e-4)


def test_an_ensemble_is_the_mean_direction_of_its_prompts(clip: Clip) -> None:
    prompts = ["a good nut", "a photo of a flawless nut"], ["a broken nut"]
    found = text_embeddings(clip, *prompts)
    for row, texts in zip(found, prompts, strict=True):
        each = [clip.model.encode_text(clip.tokenizer([text]), normalize=True)[0] for text in texts]
        torch.testing.assert_close(row, F.normalize(sum(each), dim=-1))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2))
    with pytest.raises(ConfigError, match="name the part in fewer words"):
        text_embeddings(clip, ["部" * 60], ["bad"])


@pytest.mark.parametrize(("depth", "layers"), [(24, (12, 18, 24)), (12, (6, 9, 12)), (4, (2, 3, 4)), (2, (2,))])
def test_the_last_half_is_compared_with_text(depth: int, layers: tuple[int, ...]) -> None:
    assert chosen_layers(depth) == layers


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 7), (8, 3)])
def test_a_change_in_a_photograph_is_a_change_at_its_place_in_the_map(clip: Clip, row: int, column: int) -> None:
    """9 x 9 patches; the photograph is 90 px high and 180 px wide, so a patch is 10 x 20 px of it."""
    image = texture(90, 180)
    changed = image.copy()
    changed[10 * row : 10 * row + 10, 20 * column : 20 * column + 20] = (255, 0, 255)
    moved = np.zeros((90, 180))
    for seed in range(16):  # along a single direction of random texts a patch may hardly move
        text = F.normalize(normal(2, 32, seed=seed), dim=-1)
        before, after = (to_frame(seen.anomaly_map, (90, 180)) for seen in see(clip, [image, changed], text))
        moved += np.abs(after - before)
    y, x = np.unravel_index(int(moved.argmax()), (90, 180))
    assert y // 10 == row and x // 20 == column


def test_a_known_rectangle_of_patches_is_that_rectangle_of_the_photograph() -> None:
    text = F.normalize(normal(2, 8, seed=4), dim=-1)
    inside = np.zeros((12, 12), bool)
    inside[3:6, 7:11] = True
    patches = text[torch.from_numpy(inside.astype(int)).flatten()]  # the text of each patch itself
    anomaly_map = probability(patches, text, 100.0).reshape(12, 12).numpy()
    frame = to_frame(anomaly_map, (120, 240)) >= 0.5
    expected = np.kron(inside, np.ones((10, 20), bool))
    assert (frame & expected).sum() / (frame | expected).sum() > 0.9


def test_the_score_is_the_mean_of_the_highest_patch_and_of_the_whole() -> None:
    assert Seen(np.array([[0.1, 0.9]], np.float32), 0.3).score == pytest.approx(0.6)
