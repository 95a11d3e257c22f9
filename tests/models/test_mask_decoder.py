from __future__ import annotations

import pytest
import torch
from small_sam import decoder_like, random_sam
from torch import nn

from stlm_hub.models.stlm.mask_decoder import MaskDecoder


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
