"""Segment Anything with random weights: its decoder in real size, and a whole one with a tiny encoder."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from torch import Tensor, nn

from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.official_names import decoder_from_sam


def random_sam(seed: int, grid: tuple[int, int]) -> tuple[SamMaskDecoder, PromptEncoder]:
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    decoder = SamMaskDecoder(transformer_dim=256, transformer=transformer)
    prompts = PromptEncoder(
        embed_dim=256, image_embedding_size=grid, input_image_size=(16 * grid[0], 16 * grid[1]), mask_in_chans=16
    )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in (decoder, prompts):
            for tensor in module.state_dict().values():
                if tensor.dim() == 1:
                    tensor.add_(torch.randn(tensor.shape, generator=random) / 4)
                else:
                    tensor.normal_(0, 1.5 * tensor[0].numel() ** -0.5, generator=random)
    return decoder.eval(), prompts.eval()


def states_of(sam: SamMaskDecoder, prompts: PromptEncoder) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of our decoder and of the mask head, with the same weights."""
    state = {f"mask_decoder.{name}": tensor for name, tensor in sam.state_dict().items()}
    state |= {f"prompt_encoder.{name}": tensor for name, tensor in prompts.state_dict().items()}
    return decoder_from_sam(state)


def decoder_like(sam: SamMaskDecoder, prompts: PromptEncoder) -> MaskDecoder:
    decoder = MaskDecoder().eval()
    decoder.load_state_dict(states_of(sam, prompts)[0])
    return decoder


def tiny_sam(seed: int = 0) -> Sam:
    """Segment Anything with a ViT of 0.1 M parameters; everything around it has its real size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                img_size=1024,
                patch_size=16,
                embed_dim=32,
                depth=2,
                num_heads=2,
                out_chans=256,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=14,
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
            ),
            mask_decoder=SamMaskDecoder(
                num_multimask_outputs=3,
                transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
                transformer_dim=256,
                iou_head_depth=3,
                iou_head_hidden_dim=256,
            ),
        )
        nn.init.normal_(sam.image_encoder.pos_embed, std=0.5)
    return sam.eval()
