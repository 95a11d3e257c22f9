from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder as SamMaskDecoder
from segment_anything.modeling import PromptEncoder, TwoWayTransformer
from torch import nn

from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.models.stlm.mask_head import MaskHead
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


def decoder_like(sam: SamMaskDecoder, prompts: PromptEncoder) -> MaskDecoder:
    state = {f"mask_decoder.{name}": tensor for name, tensor in sam.state_dict().items()}
    state |= {f"prompt_encoder.{name}": tensor for name, tensor in prompts.state_dict().items()}
    decoder = MaskDecoder().eval()
    decoder.load_state_dict(decoder_from_sam(state)[0])
    return decoder


@pytest.mark.parametrize("grid", [(64, 64), (12, 20)])
def test_level_2_equals_the_image_output_of_sams_transformer(grid: tuple[int, int]) -> None:
    sam, prompts = random_sam(1, grid)
    decoder = decoder_like(sam, prompts)
    embedding = torch.randn(2, 256, *grid, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        sparse, dense = prompts(points=None, boxes=None, masks=None)
        assert sparse.shape[1] == 0  # no prompts
        tokens = torch.cat([sam.iou_token.weight, sam.mask_tokens.weight]).expand(2, -1, -1)
        _, expected = sam.transformer(embedding + dense, prompts.get_dense_pe().expand(2, -1, -1, -1), tokens)
        level_2 = decoder(embedding)
    assert level_2.shape == embedding.shape
    torch.testing.assert_close(level_2, expected.transpose(1, 2).view(2, 256, *grid), rtol=0, atol=1e-4)


@pytest.mark.parametrize("grid", [(64, 64), (12, 20)])
def test_mask_logits_are_sams_own_without_a_prompt(grid: tuple[int, int]) -> None:
    sam, prompts = random_sam(5, grid)
    head = MaskHead().eval()
    state = {f"mask_decoder.{name}": tensor for name, tensor in sam.state_dict().items()}
    state |= {f"prompt_encoder.{name}": tensor for name, tensor in prompts.state_dict().items()}
    head.load_state_dict(decoder_from_sam(state)[1])
    embedding = torch.randn(1, 256, *grid, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        sparse, dense = prompts(points=None, boxes=None, masks=None)
        expected, _ = sam.predict_masks(embedding, prompts.get_dense_pe(), sparse, dense)
        masks = head(decoder_like(sam, prompts), embedding)
    assert masks.shape == (1, 4, 4 * grid[0], 4 * grid[1])
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert masks.std() > 0.1


def test_photographs_of_a_batch_do_not_see_each_other() -> None:
    decoder = decoder_like(*random_sam(3, (4, 6)))
    embedding = torch.randn(3, 256, 4, 6, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        together, alone = decoder(embedding), decoder(embedding[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


def test_decoder_has_3_29_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in MaskDecoder().parameters()) == pytest.approx(3.29e6, abs=5e3)


def test_every_parameter_that_wants_a_gradient_gets_one() -> None:
    """Distributed training waits for gradients of all parameters that are not frozen."""
    decoder: nn.Module = MaskDecoder()
    decoder(torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(5))).square().sum().backward()
    without = {name for name, parameter in decoder.named_parameters() if parameter.grad is None}
    frozen = {name for name, parameter in decoder.named_parameters() if not parameter.requires_grad}
    assert without == frozen
    assert all("final_attn" in name for name in frozen) and frozen


def test_a_window_has_the_positions_that_it_has_in_the_photograph() -> None:
    decoder = MaskDecoder()
    photograph = decoder._position(torch.zeros(1, 256, 16, 20))[0].view(16, 20, 256)
    window = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.5]])  # columns 5-15 and 0-10, rows 8-16 and 0-8
    cut = decoder._position(torch.zeros(2, 256, 8, 10), window).view(2, 8, 10, 256)
    torch.testing.assert_close(cut[0], photograph[8:16, 5:15], rtol=0, atol=1e-5)
    torch.testing.assert_close(cut[1], photograph[:8, :10], rtol=0, atol=1e-5)


def test_a_window_that_is_all_of_the_photograph_changes_nothing() -> None:
    decoder = MaskDecoder().eval()
    embedding = torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(3))
    everything = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, -1)
    with torch.inference_mode():
        torch.testing.assert_close(decoder(embedding, everything), decoder(embedding), rtol=0, atol=1e-5)
