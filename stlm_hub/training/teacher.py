"""The frozen teacher: Segment Anything's ViT-H, ViT-L, ViT-B or MobileSAM, an image in, level features out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainingError, WeightsError
from ..models.stlm.image_encoder import PIXEL_MEAN, PIXEL_STD, ImageEncoder
from ..models.stlm.mask_decoder import MaskDecoder
from ..starting_weights.official_names import decoder_from_sam
from ..starting_weights.starting_weights import StartingWeights

SAM_IMAGE_SIZE = 1024
SAM_FILES = {"vit_h": "sam_vit_h_4b8939.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_b": "sam_vit_b_01ec64.pth"}


class MobileTeacher(nn.Module):
    """MobileSAM's encoder and SAM's decoder, the weights that both streams start from (paper, Table 4).

    Args:
        weights: of encoder and decoder.
        levels: names of the levels to return.
        trunk_depth: number of stages that the streams keep frozen, and share with the teacher. Above 0 their output is
            returned too, as "trunk".
    """

    def __init__(self, weights: StartingWeights, levels: Sequence[str], trunk_depth: int = 0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.wanted = ImageEncoder(), MaskDecoder(), tuple(levels)
        self.trunk_depth = trunk_depth
        weights.load_into(self.encoder, self.decoder)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Bx3xSxS RGB in [0, 255] -> level features, see `ImageEncoder.from_trunk`."""
        needed = {*self.wanted, "embedding"} if "decoder" in self.wanted else set(self.wanted)
        trunk = self.encoder.trunk(image, self.trunk_depth)
        features = self.encoder.from_trunk(trunk, self.trunk_depth, needed)
        if "decoder" in self.wanted:
            features["decoder"] = self.decoder(features["embedding"])
        wanted = {level: features[level] for level in self.wanted}
        return wanted | {"trunk": trunk} if self.trunk_depth else wanted


class SamTeacher(nn.Module):
    """Segment Anything itself. Its ViT has a fixed 64x64 grid, so images go in at 1024 px and features are resized.

    Args:
        encoder: `segment_anything`'s ImageEncoderViT.
        decoder: SAM's two-way transformer with SAM's weights.
        levels: "embedding" and "decoder" or one of them; a ViT has no TinyViT stages.

    Raises:
        TrainingError: another level is asked for.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, encoder: nn.Module, decoder: MaskDecoder, levels: Sequence[str]) -> None:
        super().__init__()
        other = [level for level in levels if level not in ("embedding", "decoder")]
        if other:
            raise TrainingError(
                f"Segment Anything's ViT cannot teach the level {other[0]!r}; "
                "use teacher mobile or other feature_levels."
            )
        self.encoder, self.decoder, self.wanted = encoder, decoder, tuple(levels)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Bx3xSxS RGB in [0, 255] -> level features on the student's grid, Bx256x(S/16)x(S/16)."""
        return self.levels(self.embedding(image), (image.shape[-2] // 16, image.shape[-1] // 16))

    def levels(self, embedding: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Bx256x64x64 -> level features, each Bx256 times `size`."""
        features = {"embedding": embedding}
        if "decoder" in self.wanted:
            features["decoder"] = self.decoder(embedding)
        return {
            level: F.interpolate(features[level], size=size, mode="bilinear", align_corners=False)
            for level in self.wanted
        }

    def embedding(self, image: Tensor) -> Tensor:
        """Bx3xSxS RGB in [0, 255] -> Bx256x64x64, the encoder's output for the image at 1024 px."""
        if image.shape[-2:] != (SAM_IMAGE_SIZE, SAM_IMAGE_SIZE):
            image = F.interpolate(image, size=(SAM_IMAGE_SIZE, SAM_IMAGE_SIZE), mode="bilinear", align_corners=False)
        result: Tensor = self.encoder((image - self.pixel_mean) / self.pixel_std)
        return result


def build_teacher(
    name: str,
    levels: Sequence[str],
    weights: StartingWeights,
    checkpoint: Path | None = None,
    trunk_depth: int = 0,
) -> MobileTeacher | SamTeacher:
    """The teacher of a `TrainingConfig`.

    Args:
        name: "mobile", "vit_b", "vit_l" or "vit_h".
        levels: names of the levels to return.
        weights: starting weights of the streams; they are the mobile teacher.
        checkpoint: Segment Anything's .pth file for the others.
        trunk_depth: see `MobileTeacher`; the others share nothing with the streams.

    Raises:
        WeightsError: the checkpoint is missing or is not the named model.
    """
    if name == "mobile":
        return MobileTeacher(weights, levels, trunk_depth)
    if checkpoint is None or not checkpoint.is_file():
        raise WeightsError(
            f"Teacher {name} needs Segment Anything's checkpoint {SAM_FILES[name]}; download it from the "
            "segment-anything repository and pass it with --teacher-checkpoint FILE, or use --profile cpu."
        )
    from segment_anything import sam_model_registry

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        sam = sam_model_registry[name]()
        sam.load_state_dict(state, strict=True)
    except Exception as error:  # torch.load raises many kinds for a file that is not a checkpoint
        raise WeightsError(
            f"{checkpoint} is not Segment Anything's {name} ({error!s:.200}); download it again."
        ) from error
    decoder = MaskDecoder()
    decoder.load_state_dict(decoder_from_sam(state, source=str(checkpoint))[0], strict=True)
    return SamTeacher(sam.image_encoder, decoder, levels)
