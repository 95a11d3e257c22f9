"""The image encoder of a stream: parity with MobileSAM's, shapes, and what loading and training do to it."""

from __future__ import annotations

import copy

import pytest
import torch
from drawn import normal
from timm.models.tiny_vit import Attention
from torch import Tensor, nn

from stlm_hub.models.stlm.image_encoder import PIXEL_MEAN, PIXEL_STD, ImageEncoder, WindowAttention
from stlm_hub.starting_weights.official_names import from_mobile_sam

LEVELS = ("stage1", "stage2", "embedding")


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """Random parameters and BatchNorm statistics; initial ones (zero biases, zero BatchNorms) would hide mix-ups."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=random)
            elif tensor.dim() == 1 or name.endswith("attention_biases"):
                tensor.normal_(0, 0.5, generator=random)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=random)
    return module


def random_encoder(seed: int) -> ImageEncoder:
    encoder = randomised(ImageEncoder(), seed)
    assert isinstance(encoder, ImageEncoder)
    return encoder.eval()


@pytest.fixture(scope="module")
def shared() -> ImageEncoder:
    """An encoder that no test changes."""
    return random_encoder(2)


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.filterwarnings("ignore")
def test_embedding_equals_that_of_the_reference_implementation() -> None:
    mobile_sam = pytest.importorskip("mobile_sam", reason="pip install mobilesam-mirror for the parity test")
    reference = mobile_sam.sam_model_registry["vit_t"]()
    randomised(reference.image_encoder, seed=1).eval()  # eval() last: the reference gathers its attention biases there
    encoder = ImageEncoder().eval()
    from_mobile_sam(reference.state_dict()).load_into(encoder)
    image = random_image(1, 3, 1024, 1024)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    with torch.inference_mode():
        expected = reference.image_encoder((image - mean) / std)
        embedding = encoder(image)["embedding"]
    assert expected.std() > 0.1
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("height, width", [(64, 64), (192, 192), (320, 256), (64, 448)])
def test_any_multiple_of_64_gives_levels_of_the_documented_shapes(
    shared: ImageEncoder, height: int, width: int
) -> None:
    with torch.inference_mode():
        features = shared(random_image(2, 3, height, width), LEVELS)
    assert {name: tuple(level.shape) for name, level in features.items()} == {
        "stage1": (2, 128, height // 8, width // 8),
        "stage2": (2, 160, height // 16, width // 16),
        "embedding": (2, 256, height // 16, width // 16),
    }


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_trunk_and_the_rest_are_the_whole_encoder(shared: ImageEncoder, depth: int) -> None:
    encoder, image = shared, random_image(1, 3, 128, 64)
    levels = [level for level in LEVELS if level == "embedding" or int(level[-1]) + 1 >= depth]
    with torch.inference_mode():
        expected = encoder(image, levels)
        features = encoder.from_trunk(encoder.trunk(image, depth), depth, levels)
    assert features.keys() == expected.keys() == set(levels)
    for level in levels:
        torch.testing.assert_close(features[level], expected[level], rtol=0, atol=0)


def test_image_content_moves_features_only_nearby(shared: ImageEncoder) -> None:
    """Rows are rows and columns are columns: a dot at the top right changes the top right of the first level most."""
    encoder, image = shared, random_image(1, 3, 128, 192)
    changed = image.clone()
    changed[..., 8:16, 168:176] = 0
    with torch.inference_mode():
        difference = (encoder(changed, ("stage1",))["stage1"] - encoder(image, ("stage1",))["stage1"]).abs().sum(1)[0]
    row, column = divmod(int(difference.argmax()), difference.shape[1])
    assert abs(row - 1) <= 1 and abs(column - 21) <= 1


def test_encoder_has_5_744_million_parameters(shared: ImageEncoder) -> None:
    assert sum(parameter.numel() for parameter in shared.parameters()) == pytest.approx(5.744e6, abs=1e3)


def test_weights_loaded_after_a_forward_replace_the_kept_attention_biases() -> None:
    first, second, image = random_encoder(4), random_encoder(5), random_image(1, 3, 128, 128)
    with torch.inference_mode():
        first(image)  # timm gathers the attention biases here and keeps them
        first.load_state_dict(second.state_dict())
        torch.testing.assert_close(first(image)["embedding"], second(image)["embedding"], rtol=0, atol=0)


def test_frozen_batch_norm_stays_as_it_is_in_training() -> None:
    encoder = random_encoder(6).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items() if ".bn." in name}
    with torch.no_grad():
        encoder(random_image(2, 3, 64, 64))
    assert encoder.training
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in before.items())


def test_batch_norm_that_is_not_frozen_learns_its_statistics() -> None:
    encoder = ImageEncoder(batch_norm_frozen=False).train()
    with torch.no_grad():
        encoder(random_image(2, 3, 64, 64))
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(int(norm.num_batches_tracked or 0) == 1 for norm in norms)


@pytest.mark.parametrize("window, heads, channels", [(7, 4, 128), (14, 5, 160)])
def test_window_attention_is_timms_in_both_forms(window: int, heads: int, channels: int) -> None:
    """Plain matrix products, in float32 and under autocast in bfloat16: one result and one gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = Attention(channels, channels // heads, heads, attn_ratio=1, resolution=(window, window))
        torch.nn.init.normal_(theirs.attention_biases)
    ours = copy.deepcopy(theirs)
    ours.__class__ = WindowAttention
    x = normal(3, window * window, channels)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = ours(x)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), expected, rtol=0.05, atol=0.02)
    expected.sum().backward()
    narrow.float().sum().backward()
    reference, gradient = theirs.attention_biases.grad, ours.attention_biases.grad
    assert reference is not None and gradient is not None
    assert torch.nn.functional.cosine_similarity(reference.flatten(), gradient.flatten(), dim=0) > 0.98


def test_an_encoder_has_no_other_attention(shared: ImageEncoder) -> None:
    assert {type(m) for m in shared.modules() if isinstance(m, Attention)} == {WindowAttention}


def test_convolutions_keep_the_fast_layout_when_weights_are_loaded() -> None:
    """Channels last, 1.4 times as fast on a processor; files hold the plain one."""
    encoder = ImageEncoder()
    plain = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    encoder.load_state_dict(plain)
    layouts = {
        name: weight.is_contiguous(memory_format=torch.channels_last)
        for name, weight in encoder.named_parameters()
        if weight.dim() == 4
    }
    assert len(layouts) > 20 and all(layouts.values())
    assert not plain["patch_embed.conv2.conv.weight"].is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        stage = encoder.eval().trunk(torch.rand(1, 3, 64, 64) * 255, 1)
    assert stage.is_contiguous(memory_format=torch.channels_last)
