"""Teachers: MobileSAM is the encoder and decoder with the starting weights, Segment Anything sees 1024 px."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import segment_anything
import torch
from segment_anything.modeling import Sam
from small_sam import tiny_sam
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_hub.errors import TrainingError, WeightsError
from stlm_hub.models.stlm.image_encoder import PIXEL_MEAN, PIXEL_STD, ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.teacher import SAM_FILES, MobileTeacher, SamTeacher, build_teacher


def image(side: int = 64, n: int = 1) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("levels", [("embedding", "decoder"), ("decoder",), ("stage2", "stage1")])
def test_the_mobile_teacher_is_the_encoder_and_decoder_with_the_starting_weights(
    starting_weights: StartingWeights, levels: tuple[str, ...]
) -> None:
    encoder, decoder = ImageEncoder().eval(), MaskDecoder().eval()
    starting_weights.load_into(encoder, decoder)
    with torch.no_grad():
        expected = encoder(image(n=2), {"stage1", "stage2", "embedding"})
        expected["decoder"] = decoder(expected["embedding"])
    teacher = build_teacher("mobile", levels, starting_weights)
    features = teacher(image(n=2))
    assert tuple(features) == levels
    for level in levels:  # the last bit depends on where tensors lie in memory
        torch.testing.assert_close(features[level], expected[level], rtol=1e-5, atol=1e-5)
    assert all(feature.std(dim=0).mean() > 0.01 for feature in features.values())  # it knows the image


def test_a_teacher_never_learns(starting_weights: StartingWeights) -> None:
    teacher = MobileTeacher(starting_weights, ("embedding",))
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(image().requires_grad_())["embedding"].requires_grad


# ---------------------------------------------------------------- Segment Anything


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vit_b` becomes the tiny one, with other weights than any checkpoint of these tests."""
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", partial(tiny_sam, seed=9))


@pytest.mark.usefixtures("registry")
def test_segment_anything_sees_1024_px_and_answers_on_the_students_grid(
    starting_weights: StartingWeights, tmp_path: Path
) -> None:
    sam = tiny_sam()
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    teacher = build_teacher("vit_b", ("decoder", "embedding"), starting_weights, tmp_path / "sam.pth")
    assert isinstance(teacher, SamTeacher) and not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())

    seen: list[Tensor] = []
    embeddings: list[Tensor] = []

    def watch(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append(inputs[0])
        embeddings.append(output)

    teacher.encoder.register_forward_hook(watch)
    features = teacher(image(128))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    large = F.interpolate(image(128), size=(1024, 1024), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[0], (large - mean) / std)

    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        decoder = sam.mask_decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).unsqueeze(0)
        _, tokens_out = decoder.transformer(embeddings[0] + dense, sam.prompt_encoder.get_dense_pe(), tokens)
        level_2 = tokens_out.transpose(1, 2).view(1, 256, 64, 64)
    assert sparse.shape[1] == 0
    assert tuple(features) == ("decoder", "embedding")
    for level, full in (("embedding", embeddings[0]), ("decoder", level_2)):
        assert features[level].shape == (1, 256, 8, 8)
        expected = F.interpolate(full, size=(8, 8), mode="bilinear", align_corners=False)
        torch.testing.assert_close(features[level], expected, rtol=0, atol=1e-4)
        assert features[level].std(dim=(2, 3)).mean() > 0.01
    # the encoder is the checkpoint's, not what the registry drew
    weights = teacher.encoder.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in sam.image_encoder.state_dict().items())


@pytest.mark.parametrize("name", SAM_FILES)
def test_a_teacher_is_the_network_of_its_name(
    name: str, starting_weights: StartingWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    for other in SAM_FILES:

        def build(other: str = other) -> Sam:
            made.append(other)
            return tiny_sam()

        monkeypatch.setitem(segment_anything.sam_model_registry, other, build)
    torch.save(tiny_sam().state_dict(), tmp_path / SAM_FILES[name])
    build_teacher(name, ("embedding",), starting_weights, tmp_path / SAM_FILES[name])
    assert made == [name] and SAM_FILES[name].startswith(f"sam_{name}_")


def test_at_1024_px_nothing_is_resized() -> None:
    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.shape = x.shape
            return F.avg_pool2d(x, 16).repeat(1, 86, 1, 1)[:, :256]

    encoder = Patches()
    teacher = SamTeacher(encoder, MaskDecoder(), ("embedding",))
    large = image(1024)
    embedding = teacher(large)["embedding"]
    assert encoder.shape == (1, 3, 1024, 1024) and embedding.shape == (1, 256, 64, 64)
    red = (F.avg_pool2d(large, 16)[:, 0] - PIXEL_MEAN[0]) / PIXEL_STD[0]
    torch.testing.assert_close(embedding[:, 0], red, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("registry")
def test_a_vit_cannot_teach_tinyvit_stages(starting_weights: StartingWeights, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot teach the level 'stage2'; use teacher mobile"):
        SamTeacher(nn.Identity(), MaskDecoder(), ("embedding", "stage2"))
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    with pytest.raises(TrainingError, match="stage1"):
        build_teacher("vit_b", ("stage1",), starting_weights, tmp_path / "sam.pth")


@pytest.mark.parametrize("name", ["vit_h", "vit_l", "vit_b"])
@pytest.mark.parametrize("missing", [None, "nowhere.pth"])
def test_a_missing_checkpoint_is_named(
    starting_weights: StartingWeights, tmp_path: Path, name: str, missing: str | None
) -> None:
    checkpoint = tmp_path / missing if missing else None
    with pytest.raises(WeightsError, match=f"{SAM_FILES[name]}.*--teacher-checkpoint"):
        build_teacher(name, ("embedding",), starting_weights, checkpoint)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("kind", ["noise", "empty", "other model", "lacks one", "a list", "an object"])
def test_a_wrong_checkpoint_is_refused_by_its_name(
    starting_weights: StartingWeights, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "sam.pth"
    state = tiny_sam().state_dict()
    if kind == "lacks one":
        state.pop("image_encoder.neck.0.weight")
    content: dict[str, Any] = {
        "other model": nn.Linear(2, 2).state_dict(),
        "lacks one": state,
        "a list": [1, 2],
        "an object": image,  # would have to be unpickled
    }
    if kind in content:
        torch.save(content[kind], path)
    else:
        path.write_bytes(b"noise" * 100 if kind == "noise" else b"")
    with pytest.raises(WeightsError, match=r"sam\.pth is not Segment Anything's vit_b"):
        build_teacher("vit_b", ("embedding",), starting_weights, path)
