"""CLIP's patches against words for good and anomalous parts: an anomaly map of a photograph, and a score of the whole.

CLIP compares whole photographs with text. For its patches the last layers run a second path beside the usual one, in
which values attend to values (V-V attention; CLIP Surgery, Li et al., arXiv 2304.05653): a patch then gathers from
patches that look like it, and stays close to text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..predict.frame import to_input

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

    from .clip_weights import Clip

TEXTS_AT_ONCE = 64


class Seen(NamedTuple):
    """What CLIP sees of one photograph.

    anomaly_map: hxw float32 in [0, 1], h and w in patches: the probability of an anomalous part at each.
    whole: the same probability for the whole photograph.
    """

    anomaly_map: np.ndarray
    whole: float

    @property
    def score(self) -> float:
        """Anomaly score in [0, 1]: the mean of the highest patch and of the whole, for a small defect hardly changes
        the whole, and some patch of a good part is often high."""
        return (float(self.anomaly_map.max()) + self.whole) / 2


def see(clip: Clip, images: Sequence[np.ndarray], text: Tensor) -> list[Seen]:
    """Compares photographs with text.

    Args:
        clip: the model.
        images: HxWx3 uint8 RGB each, of any size; they are brought to CLIP's square.
        text: 2xC, see `text_embeddings`.
    """
    mean, std = (torch.tensor(values, device=clip.device).view(3, 1, 1) for values in (clip.mean, clip.std))
    visual, scale = clip.model.visual, clip.model.logit_scale.exp()
    found = []
    for image in images:
        with torch.inference_mode():
            pixels = (to_input([image], (clip.side, clip.side), clip.device) / 255 - mean) / std
            patches, whole = embeddings(visual, pixels, chosen_layers(len(visual.transformer.resblocks)))
            anomalous = probability(patches, text, scale).mean(0)[0].reshape(visual.grid_size)
            found.append(Seen(anomalous.float().cpu().numpy(), float(probability(whole, text, scale)[0])))
    return found


def chosen_layers(depth: int) -> tuple[int, ...]:
    """Layers whose patches are compared with text, counted from 1: at a half, three quarters and the end of `depth`.

    Those before are far from text unless something is trained, as APRIL-GAN and AnomalyCLIP do.
    """
    return tuple(sorted({max(2, depth // 2), max(2, 3 * depth // 4), depth}))


def text_embeddings(clip: Clip, normal: Sequence[str], anomalous: Sequence[str]) -> Tensor:
    """Two ensembles of prompts -> 2xC of length 1: the mean direction of each, t_n and t_a.

    Raises:
        ConfigError: a prompt is longer than CLIP reads.
    """
    means = []
    for texts in (normal, anomalous):
        for text in texts:
            if len(clip.tokenizer.encode(text)) + 2 > clip.tokenizer.context_length:  # with its start and its end
                raise ConfigError(f"CLIP cannot read all of {text!r:.80}; name the part in fewer words.")
        tokens = clip.tokenizer(list(texts)).to(clip.device)
        with torch.inference_mode():
            embedded = [clip.model.encode_text(some, normalize=True) for some in tokens.split(TEXTS_AT_ONCE)]
        means.append(torch.cat(embedded).mean(0))
    return F.normalize(torch.stack(means), dim=-1)


def embeddings(visual: VisionTransformer, pixels: Tensor, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Patches at several layers, and the whole photograph, where text is.

    With x_i the tokens after layer i and A_i the V-V attention of layer i, the second path is
    y_i = y_(i-1) + A_i(x_(i-1)), from y = x at the layer before the first of `layers` on; it has no MLP.

    Args:
        visual: open_clip's vision transformer.
        pixels: Bx3xHxW, normalised.
        layers: counted from 1, rising, the first at least 2.

    Returns:
        LxBxNxC and BxC, of length 1; L layers, N patches row by row.
    """
    blocks, first = visual.transformer.resblocks, layers[0]
    before = list(range(first - 2, len(blocks) - 1))  # indices of the layers that give x_(i-1) for i from `first` on
    seen = visual.forward_intermediates(pixels, indices=before, output_fmt="NLC", output_extra_tokens=True)
    tokens = [
        torch.cat(both, dim=1)
        for both in zip(seen["image_intermediates_prefix"], seen["image_intermediates"], strict=True)
    ]
    path, found = tokens[0], []
    for number, x in enumerate(tokens, start=first):
        block = blocks[number - 1]
        path = path + block.ls_1(value_attention(block.attn, block.ln_1(x)))
        if number in layers:
            found.append(F.normalize(visual.ln_post(path[:, 1:]) @ visual.proj, dim=-1))
    return torch.stack(found), F.normalize(seen["image_features"], dim=-1)


def value_attention(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """V-V attention: softmax(V V^T / sqrt(d)) V for each head, then the output projection; V = x W_v + b_v.

    Args:
        attention: of CLIP; of its three projections only that of the values is used.
        x: BxNxC tokens.

    Returns:
        BxNxC.
    """
    assert attention.in_proj_weight is not None and attention.in_proj_bias is not None
    values = F.linear(x, attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2])
    heads = values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    gathered = F.scaled_dot_product_attention(heads, heads, heads)
    projected: Tensor = attention.out_proj(gathered.transpose(1, 2).flatten(-2))
    return projected


def probability(embedded: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Softmax of both similarities, for the anomalous side: exp(s f.t_a) / (exp(s f.t_n) + exp(s f.t_a)).

    Args:
        embedded: ...xC, f, of length 1.
        text: 2xC, t_n and t_a, of length 1.
        scale: s, CLIP's own: 100 for OpenAI's weights.

    Returns:
        ... in [0, 1]; 0.5 where both fit equally well.
    """
    return (scale * embedded @ text.T).softmax(-1)[..., 1]
