"""The paper's training step: gradients, losses, and what its options change in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from one_step import ENCODERS, OneStep, settings
from torch import Tensor

from stlm_hub.errors import TrainingError
from stlm_hub.models.stlm import image_encoder
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.losses import cosine_distillation, focal, mask_on_grid
from stlm_hub.training.objective import PAPER, Objective, make_optimizers

Prepare = Callable[..., OneStep]


@pytest.fixture
def prepare(starting_weights: StartingWeights, make_network: Callable[..., STLMNetwork]) -> Prepare:
    def prepare(model: dict[str, Any] | None = None, **fields: Any) -> OneStep:
        return OneStep(make_network(**(model or {})), starting_weights, **fields)

    return prepare


@pytest.fixture(scope="module")
def papers(
    starting_weights: StartingWeights, make_network: Callable[..., STLMNetwork], batch: dict[str, Any]
) -> tuple[OneStep, dict[str, Tensor]]:
    """The paper's step, taken, and its losses."""
    ready = OneStep(make_network(), starting_weights)
    return ready, ready.step(batch)


def test_one_step_trains_everything_at_once(papers: tuple[OneStep, dict[str, Tensor]]) -> None:
    ready, losses = papers
    assert ready.moved == ENCODERS | {"decoder", "aggregation"}
    assert list(losses) == ["plain", "denoising", "focal", "l1", "total"]
    assert losses["total"] == sum(losses[name] for name in ("plain", "denoising", "focal", "l1"))


def test_the_papers_objective_has_one_stage_of_all_steps() -> None:
    assert Objective.stages == 1 and PAPER.trains_aggregation
    assert PAPER.total_steps(settings(steps=30), 209) == 30
    assert PAPER.total_steps(settings(epochs=200), 209, processes=4) == settings(epochs=200).total_steps(209, 4)
    assert PAPER.teacher_name(settings()) == "mobile"


def test_the_denoising_and_the_focal_loss_are_of_the_hardest_positions(
    prepare: Prepare, papers: tuple[OneStep, dict[str, Tensor]], batch: dict[str, Any]
) -> None:
    whole, ready = papers[1], prepare(hardest_share=0.1)
    hardest = ready.step(batch)
    for name in ("denoising", "focal"):
        assert hardest[name] > 1.2 * whole[name]
    assert (hardest["plain"], hardest["l1"]) == (whole["plain"], whole["l1"])
    network = ready.network
    with torch.no_grad():
        plain, denoising = (
            levels(batch["pseudo"].float()) for levels in (network.plain_levels, network.denoising_levels)
        )
        clean, _ = ready.targets(batch)
        logits = network.aggregate(plain, denoising)
    assert hardest["denoising"].item() == pytest.approx(cosine_distillation(denoising, clean, 0.1).item(), rel=1e-3)
    mask = mask_on_grid(batch["mask"], (logits.shape[-2], logits.shape[-1]))
    assert hardest["focal"].item() == pytest.approx(focal(logits, mask, hardest_share=0.1).item(), rel=1e-3)


def test_without_a_mask_decoder_it_is_out_of_the_loss(
    prepare: Prepare, papers: tuple[OneStep, dict[str, Tensor]], batch: dict[str, Any]
) -> None:
    """Table 4 and, with the decoder's level alone, Fig. 11."""
    embedding = prepare({"feature_levels": ["embedding"]})
    losses = embedding.step(batch)
    assert embedding.moved == ENCODERS | {"aggregation"}
    decoder = prepare({"feature_levels": ["decoder"]})
    second = decoder.step(batch)
    assert decoder.moved == ENCODERS | {"decoder", "aggregation"}
    assert papers[1]["denoising"].item() == pytest.approx((losses["denoising"] + second["denoising"]).item(), rel=1e-4)


def test_separate_decoders_are_two_that_both_learn(prepare: Prepare, batch: dict[str, Any]) -> None:
    """Fig. 5."""
    ready = prepare({"decoders": "separate"})
    network = ready.network
    assert network.denoising_decoder is not None
    ready.step(batch)
    assert ready.moved == ENCODERS | {"decoder", "denoising_decoder", "aggregation"}
    made = make_optimizers(network, ready.config)["streams"]
    owned = {id(p) for group in made.param_groups for p in group["params"]}
    trained = [p for p in network.denoising_decoder.parameters() if p.requires_grad]
    assert trained and all(id(p) in owned for p in trained)
    with torch.no_grad():
        image = batch["clean"].float()
        plain = network.plain_levels(image)["decoder"]
        for parameter in network.denoising_decoder.parameters():
            parameter.zero_()
        torch.testing.assert_close(network.plain_levels(image)["decoder"], plain)
        assert not torch.allclose(network.denoising_levels(image)["decoder"], plain)
    with pytest.raises(TrainingError, match='needs the feature level "decoder"'):
        prepare({"decoders": "separate", "feature_levels": ["embedding"]})


def test_a_level_that_is_frozen_in_both_streams_is_refused(prepare: Prepare) -> None:
    """Its distance is rounding noise, which the product over the levels would be multiplied with."""
    with pytest.raises(TrainingError, match="use fewer frozen_stages or later feature_levels"):
        prepare({"feature_levels": ["stage1", "stage2", "embedding", "decoder"]}, frozen_stages=2)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_teachers_trunk_is_the_streams_own(prepare: Prepare, batch: dict[str, Any], depth: int) -> None:
    """Frozen stages computed once change no loss."""
    ready = prepare({"feature_levels": ["stage2", "embedding", "decoder"]}, frozen_stages=depth)
    clean, pseudo = ready.targets(batch)
    assert pseudo["trunk"].shape == ready.network.plain_encoder.trunk(batch["pseudo"].float(), depth).shape
    (module,) = ready.losses()
    with torch.no_grad():
        shared = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
        del pseudo["trunk"]
        own = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
    assert own["denoising"] > 1e-3
    for name, loss in own.items():
        assert shared[name].item() == pytest.approx(loss.item(), rel=2e-3, abs=1e-5), name


def test_recomputed_activations_change_no_gradient(
    prepare: Prepare, papers: tuple[OneStep, dict[str, Tensor]], batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept, before), recomputed = papers, prepare()
    calls: list[int] = []
    real = image_encoder.checkpoint
    monkeypatch.setattr(image_encoder, "checkpoint", lambda *args, **options: calls.append(1) or real(*args, **options))
    for encoder in (recomputed.network.plain_encoder, recomputed.network.denoising_encoder):
        encoder.recompute_activations = True
    losses = recomputed.step(batch)
    assert len(calls) == 8  # four stages of two streams
    assert losses["total"].item() == pytest.approx(before["total"].item(), rel=1e-6)
    for (name, one), (_, other) in zip(
        kept.network.named_parameters(), recomputed.network.named_parameters(), strict=True
    ):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
