"""Checkpoints of MobileSAM and Segment Anything -> state dicts under our names.

Every form of weights is first brought to the names of MobileSAM's `mobile_sam.pt`. From there one rule names the
encoder's tensors and one those of the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import WeightsError
from .starting_weights import StartingWeights, check_tensor_names, describe_source, module_templates

# Parts of a MobileSAM checkpoint that nothing here uses: the classifier, cached attention biases, statistics of pixels.
# Any other unknown tensor is refused.
_UNUSED = re.compile(
    r"image_encoder\.(norm_head|head)\.|image_encoder\.layers\.\d+\.blocks\.\d+\.attn\.(attention_bias_idxs|ab)$"
    r"|pixel_(mean|std)$"
)
_OF_PROMPTS = ("no_mask_embed.", "point_embeddings.", "not_a_point_embed.", "mask_downscaling.")
"""Prefixes of what SAM keeps in its prompt encoder."""


def from_mobile_sam(state: Mapping[str, Tensor], *, source: str = "", sha256: str = "") -> StartingWeights:
    """Weights under the names of `mobile_sam.pt`, in any floating type -> float32 under our names.

    Args:
        state: the checkpoint. SAM's mask head (`mask_decoder.output_*`) may be absent, but not in part; so may what its
            prompts need, see `starting_weights.PROMPTS`.
        source, sha256: see `StartingWeights`.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or not finite.
    """
    if "image_encoder.pos_embed" in state:
        raise WeightsError(
            f"{describe_source(source)} is Segment Anything with a large encoder; use MobileSAM's (ViT-T)."
        )
    templates = module_templates()
    optional = {
        part: template
        for part, template in (("mask_head", templates.mask_head), ("prompts", templates.prompts))
        if any(_official_decoder_name(name) in state for name in template)
    }
    names = {_official_encoder_name(name) for name in templates.encoder} | {
        _official_decoder_name(name) for part in (templates.decoder, *optional.values()) for name in part
    }
    check_tensor_names(source, wanted=names, present=(name for name in state if not _UNUSED.match(name)))
    return StartingWeights(
        encoder={
            name: _cpu_copy(state[_official_encoder_name(name)], template.dtype)
            for name, template in templates.encoder.items()
        },
        decoder=_decoder_tensors(state, templates.decoder),
        source=source,
        sha256=sha256,
        **{part: _decoder_tensors(state, template) for part, template in optional.items()},
    )


def decoder_from_sam(state: Mapping[str, Tensor], *, source: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of `MaskDecoder` and of SAM's mask head from a checkpoint of Segment Anything with any encoder.

    Raises:
        WeightsError: a tensor of the decoder or the prompt encoder is missing or unknown.
    """
    templates = module_templates()
    prompts = {_official_decoder_name(name) for name in templates.prompts}
    present = (name for name in state if not name.startswith("image_encoder.") and not _UNUSED.match(name))
    present = (name for name in present if name not in prompts)
    wanted = {_official_decoder_name(name) for name in (*templates.decoder, *templates.mask_head)}
    check_tensor_names(source, wanted=wanted, present=present)
    return _decoder_tensors(state, templates.decoder), _decoder_tensors(state, templates.mask_head)


def _official_encoder_name(ours: str) -> str:
    """`ImageEncoder`'s name of a tensor -> MobileSAM's."""
    name = re.sub(r"^patch_embed\.conv([12])\.", lambda found: f"patch_embed.seq.{2 * int(found[1]) - 2}.", ours)
    # timm downsamples at the start of a stage, MobileSAM at the end of the one before.
    name = re.sub(r"^stages\.(\d)\.downsample\.", lambda found: f"layers.{int(found[1]) - 1}.downsample.", name)
    name = re.sub(r"^stages\.", "layers.", name)
    return "image_encoder." + name.replace(".conv.", ".c.")


def _official_decoder_name(ours: str) -> str:
    """Our name of a tensor of the decoder, the mask head or the prompts -> SAM's."""
    if ours.startswith("position."):
        return ours.replace("position.", "prompt_encoder.pe_layer.", 1)
    return ("prompt_encoder." if ours.startswith(_OF_PROMPTS) else "mask_decoder.") + ours


def _decoder_tensors(state: Mapping[str, Tensor], templates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the decoder, the mask head or the prompts, under our names."""
    return {
        name: _cpu_copy(state[_official_decoder_name(name)], template.dtype) for name, template in templates.items()
    }


def _cpu_copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype, copy=True)
