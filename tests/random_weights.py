"""Starting weights with random values, and whether two are equal."""

from __future__ import annotations

import torch

from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.starting_weights import StartingWeights, module_templates


def random_weights(seed: int) -> StartingWeights:
    """Weights of all four parts, with the source "somewhere" and the SHA-256 "ab12"."""
    torch.manual_seed(seed)
    encoder, decoder = (dict(module().state_dict()) for module in (ImageEncoder, MaskDecoder))
    templates = module_templates()
    mask_head, prompts = (
        {name: torch.randn(tensor.shape) for name, tensor in part.items()}
        for part in (templates.mask_head, templates.prompts)
    )
    return StartingWeights(encoder, decoder, "somewhere", "ab12", mask_head, prompts)


def same_weights(first: StartingWeights, second: StartingWeights) -> bool:
    """Whether names and values are equal, whatever the sources are."""
    pairs = (
        (first.encoder, second.encoder),
        (first.decoder, second.decoder),
        (first.mask_head or {}, second.mask_head or {}),
        (first.prompts or {}, second.prompts or {}),
    )
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
