"""Starting weights of a training: state dicts of our modules, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

from ..errors import WeightsError
from ..files.whole import made_beside
from ..models.stlm.image_encoder import ImageEncoder
from ..models.stlm.mask_decoder import EMBEDDING_DIM, MaskDecoder

MASK_HEAD = ("output_upscaling.", "output_hypernetworks_mlps.")
"""Prefixes of SAM's names of the mask head, which turns mask tokens into masks."""

PROMPTS = ("point_embeddings.", "not_a_point_embed.", "mask_downscaling.", "iou_prediction_head.")
"""Prefixes of SAM's names of what a prompt needs: embeddings of points, boxes and masks, and the predicted IoU."""

FORMAT = "stlm_hub starting weights 1"
"""Name of the format, in the metadata of the file that `StartingWeights.save` writes."""


class Templates(NamedTuple):
    """Tensors without data that have the names, shapes and types of a module's state dict."""

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    mask_head: dict[str, Tensor]
    prompts: dict[str, Tensor]


@dataclass(frozen=True)
class StartingWeights:
    """MobileSAM's image encoder and SAM's mask decoder. Every tensor was checked against the modules they are for.

    Args:
        encoder: state dict of `ImageEncoder`, on the CPU.
        decoder: state dict of `MaskDecoder`, on the CPU.
        source: where they come from, e.g. "dhkim2810/MobileSAM/mobile_sam.pt". Errors and model cards name it.
        sha256: SHA-256 of the files they were read from, in hex.
        mask_head: SAM's tensors under `MASK_HEAD`, on the CPU; None where the source has none. No model of the zoo
            needs them: they are for SAM's masks (`stlm_hub/zero_shot/`, the paper's Table 9).
        prompts: SAM's tensors under `PROMPTS`, on the CPU; None where the source has none. Only SAM's masks need them.

    Raises:
        WeightsError: a tensor is missing or unknown, has another shape or type, or is not finite.
    """

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    source: str = ""
    sha256: str = ""
    mask_head: dict[str, Tensor] | None = None
    prompts: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        parts = (self.encoder, self.decoder, self.mask_head, self.prompts)
        for state, template in zip(parts, module_templates(), strict=True):
            if state is None:
                continue
            check_tensor_names(self.source, wanted=template, present=state)
            for name, tensor in state.items():
                wanted = template[name]
                if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
                    raise WeightsError(
                        f"{describe_source(self.source)}: {name} is {tensor.dtype} {[*tensor.shape]}, not "
                        f"{wanted.dtype} {[*wanted.shape]}; use weights of MobileSAM (ViT-T)."
                    )
                if not torch.isfinite(tensor).all():
                    raise WeightsError(
                        f"{describe_source(self.source)}: {name} is not finite; download the file again."
                    )

    def load_into(self, encoder: ImageEncoder | None = None, decoder: MaskDecoder | None = None) -> None:
        """Copies the weights into the given modules. Every parameter and buffer is set."""
        if encoder is not None:
            encoder.load_state_dict(self.encoder, strict=True)
        if decoder is not None:
            decoder.load_state_dict(self.decoder, strict=True)

    def save(self, path: Path) -> None:
        """Writes one safetensors file with the keys `encoder.*`, `decoder.*`, `mask_head.*` and `prompts.*`.

        The file appears whole or not at all: it is written beside its place and then moved there.
        """
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        parts |= {"mask_head": self.mask_head or {}, "prompts": self.prompts or {}}
        tensors = {
            f"{part}.{name}": tensor.contiguous() for part, state in parts.items() for name, tensor in state.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with made_beside(path) as folder:
            whole = folder / path.name
            whole.write_bytes(save(tensors, {"format": FORMAT, "source": self.source, "sha256": self.sha256}))
            whole.replace(path)

    @classmethod
    def load(cls, path: Path) -> StartingWeights:
        """Reads what `save` wrote.

        Raises:
            WeightsError: the file is missing, damaged, incomplete or no file of ours.
        """
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") != FORMAT:
            raise WeightsError(f"{path} is not starting weights of stlm_hub; import it with: stlm weights import FILE")
        parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}, "mask_head": {}, "prompts": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            if part not in parts:
                raise WeightsError(f"{path} has an unknown tensor {key:.80}; fetch it with: stlm weights fetch --force")
            parts[part][name] = tensor
        # Errors must name this file, so the real source is set last. Files of earlier versions lack the last parts.
        weights = cls(
            parts["encoder"],
            parts["decoder"],
            source=str(path),
            mask_head=parts["mask_head"] or None,
            prompts=parts["prompts"] or None,
        )
        return replace(weights, source=metadata.get("source", ""), sha256=metadata.get("sha256", ""))


@cache
def module_templates() -> Templates:
    """Names, shapes and types that the encoder, the decoder, the mask head and SAM's prompts expect."""
    with torch.random.fork_rng(devices=[]):  # building a module draws random numbers; a training's seed must not notice
        sam = SamMaskDecoder(transformer_dim=EMBEDDING_DIM, transformer=nn.Identity())
        prompts = PromptEncoder(EMBEDDING_DIM, image_embedding_size=(1, 1), input_image_size=(16, 16), mask_in_chans=16)
        modules = ImageEncoder(), MaskDecoder(), sam, prompts
    encoder, decoder, masks, asked = ({key: t.to("meta") for key, t in m.state_dict().items()} for m in modules)
    return Templates(
        encoder,
        decoder,
        {key: tensor for key, tensor in masks.items() if key.startswith(MASK_HEAD)},
        {key: tensor for key, tensor in (asked | masks).items() if key.startswith(PROMPTS)},
    )


def check_tensor_names(source: str, *, wanted: Iterable[str], present: Iterable[str]) -> None:
    """
    Raises:
        WeightsError: a wanted name is missing, or a present one is not wanted. The first three are listed.
    """
    wanted, present = set(wanted), set(present)
    for problem, names in (("lacks", wanted - present), ("has unknown tensors", present - wanted)):
        if names:
            shown = ", ".join(sorted(f"{name:.80}" for name in names)[:3])
            raise WeightsError(
                f"{describe_source(source)} {problem}: {shown}{', ...' if len(names) > 3 else ''} ({len(names)} in "
                "all); use weights of MobileSAM (ViT-T)."
            )


def describe_source(source: str) -> str:
    """The source as the subject of an error message."""
    return source or "The checkpoint"


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the metadata of a safetensors file.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); fetch or copy it again.") from None
