"""The paper's ablations, each by what it changes in a training step: gradients, losses, weights, inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from one_step import ENCODERS, OneStep, settings
from torch import Tensor

from stlm_hub.errors import TrainingError
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import checkpoint
from stlm_hub.training.log import Record
from stlm_hub.training.loop import train
from stlm_hub.training.losses import cosine_distance, focal, l1
from stlm_hub.training.objective import PAPER
from train.ablations.masks import mask_head_of
from train.ablations.objectives import OBJECTIVES

Prepare = Callable[..., OneStep]
Fit = Callable[..., tuple[STLMNetwork, list[Record]]]


@pytest.fixture
def prepare(starting_weights: StartingWeights, make_network: Callable[..., STLMNetwork]) -> Prepare:
    def prepare(name: str, model: dict[str, Any] | None = None, **fields: Any) -> OneStep:
        return OneStep(make_network(**(model or {})), starting_weights, OBJECTIVES[name], **fields)

    return prepare


@pytest.fixture
def fit(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
    run_folder: Path,
) -> Fit:
    """A training of an objective in the loop."""

    def fit(name: str, on_step: Callable[[STLMNetwork], None] | None = None, **fields: Any) -> Any:
        network = make_network()
        log = train(
            network,
            photographs,
            settings(checkpoint_every=1000, **fields),
            starting_weights,
            run_folder,
            objective=OBJECTIVES[name],
            textures=textures,
            on_step=on_step and (lambda _: on_step(network)),
        )
        return network, log

    return fit


@pytest.fixture
def no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests about other things: a checkpoint has up to 200 MB."""
    monkeypatch.setattr(checkpoint, "save", lambda *_: None)


def test_the_papers_objective_is_one_of_them_under_its_own_name() -> None:
    assert OBJECTIVES["paper"] is PAPER
    assert all(objective.name == name for name, objective in OBJECTIVES.items())
    assert {name for name, objective in OBJECTIVES.items() if not objective.trains_aggregation} == {"no_aggregation"}
    teachers = {objective.teacher_name(settings()) for name, objective in OBJECTIVES.items() if name != "no_teacher"}
    assert teachers == {"mobile"} and OBJECTIVES["no_teacher"].teacher_name(settings()) == "none"


# ---------------------------------------------------------------- Table 4: without a plain student


def test_without_a_plain_student_the_plain_stream_is_the_teacher(prepare: Prepare, batch: dict[str, Any]) -> None:
    """In training and, since nothing of it moves, in the finished network too."""
    ready = prepare("no_plain_student", {"decoders": "separate"})
    losses = ready.step(batch)
    assert ready.moved == {"denoising_encoder", "denoising_decoder", "aggregation"}
    assert losses["plain"] == pytest.approx(0, abs=1e-6)
    _, pseudo = ready.targets(batch)
    with torch.no_grad():
        plain = ready.network.plain_levels(batch["pseudo"].float())
    for level, feature in plain.items():  # the target is rounded to half precision
        torch.testing.assert_close(feature, pseudo[level], rtol=2e-3, atol=2e-3)
    with pytest.raises(TrainingError, match='set decoders "separate"'):
        prepare("no_plain_student")
    with pytest.raises(TrainingError, match='needs teacher "mobile"'):
        prepare("no_plain_student", {"decoders": "separate"}, teacher="vit_h")


# ---------------------------------------------------------------- Tables 4 and 5: streams and aggregation apart


def test_without_aggregation_only_the_streams_learn(prepare: Prepare, batch: dict[str, Any]) -> None:
    ready = prepare("no_aggregation")
    losses = ready.step(batch)
    assert ready.moved == ENCODERS | {"decoder"}
    assert (losses["focal"], losses["l1"]) == (0, 0) and losses["total"] > 1e-3
    assert not any(parameter.requires_grad for parameter in ready.network.aggregation.parameters())


def test_two_stages_train_the_streams_first_and_then_the_aggregation_alone(
    prepare: Prepare, batch: dict[str, Any]
) -> None:
    assert OBJECTIVES["two_stages"].total_steps(settings(steps=3), 100) == 6  # 3 each
    first, second = prepare("two_stages"), prepare("two_stages")
    losses = first.step(batch, stage=0)
    assert first.moved == ENCODERS | {"decoder"}
    assert (losses["focal"], losses["l1"]) == (0, 0) and losses["total"] > 1e-3
    losses = second.step(batch, stage=1)
    assert second.moved == {"aggregation"}
    assert losses["focal"] > 0 and losses["l1"] > 0 and losses["denoising"] > 0


@pytest.mark.usefixtures("no_checkpoints")
def test_a_stage_moves_no_weight_of_the_other(fit: Fit, make_network: Callable[..., STLMNetwork]) -> None:
    """Neither by momentum nor by weight decay. Each stage has its own warm-up and decay."""
    states: list[dict[str, Tensor]] = []

    def keep(network: STLMNetwork) -> None:
        states.append({name: p.detach().clone() for name, p in network.named_parameters()})

    _, log = fit("two_stages", keep, steps=2, warmup_steps=1, final_learning_rate=0.2)
    before = dict(make_network().named_parameters())
    _, after, _, end = states
    assert all(torch.equal(after[n], before[n]) for n in after if n.startswith("aggregation."))
    assert all(torch.equal(end[n], after[n]) for n in after if not n.startswith("aggregation."))
    assert any(not torch.equal(end[n], after[n]) for n in after if n.startswith("aggregation."))
    assert log[0]["focal"] == log[1]["focal"] == 0 < log[2]["focal"]
    assert [record["learning_rate"] for record in log] == pytest.approx(2 * [5e-4, 3e-4])  # half a cosine, half way


# ---------------------------------------------------------------- Table 7: without a teacher


def test_without_a_teacher_the_streams_learn_from_each_other(prepare: Prepare, batch: dict[str, Any]) -> None:
    """Clean image into the plain stream, pasted one into the denoising stream, no third network."""
    ready = prepare("no_teacher")
    losses = ready.step(batch)
    assert losses["plain"] == 0
    with torch.no_grad():
        clean = ready.network.plain_levels(batch["clean"].float())
        pasted = ready.network.denoising_levels(batch["pseudo"].float())
        expected = sum(1 - torch.nn.functional.cosine_similarity(clean[k], pasted[k], dim=1).mean() for k in clean)
    assert losses["denoising"].item() == pytest.approx(float(expected), rel=1e-4)
    distance = prepare("no_teacher")  # without the losses of the aggregation it alone moves both
    (module,) = distance.losses()
    module(batch["pseudo"].float(), batch["mask"], *distance.targets(batch))["denoising"].backward()
    assert distance.moved == ENCODERS | {"decoder"}
    for fields in ({"frozen_stages": 1}, {"plain_stream": "frozen"}):
        with pytest.raises(TrainingError, match="both streams learn as a whole"):
            prepare("no_teacher", **fields)


def test_without_a_teacher_too_the_hardest_positions_count(prepare: Prepare, batch: dict[str, Any]) -> None:
    whole, ready = prepare("no_teacher").step(batch), prepare("no_teacher", hardest_share=0.1)
    hardest = ready.step(batch)
    for name in ("denoising", "focal"):
        assert hardest[name] > 1.2 * whole[name]
    assert (hardest["plain"], hardest["l1"]) == (whole["plain"], whole["l1"])
    with torch.no_grad():
        clean = ready.network.plain_levels(batch["clean"].float())
        pasted = ready.network.denoising_levels(batch["pseudo"].float())
    assert hardest["denoising"].item() == pytest.approx(cosine_distance(pasted, clean, 0.1).item(), rel=1e-3)


@pytest.mark.usefixtures("no_checkpoints")
def test_a_training_without_a_teacher_reads_none(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stlm_hub.training.objective.build_teacher", lambda *_: pytest.fail("there is no teacher"))
    _, log = fit("no_teacher", teacher="vit_h", steps=2)
    assert [record["plain"] for record in log] == [0, 0]
    assert all(record["denoising"] > 0 for record in log)


# ---------------------------------------------------------------- Table 8: random encoders


def test_random_encoders_start_from_nothing_and_learn_their_statistics(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """The decoder still is SAM's."""
    ready = prepare("random_encoders")
    network = ready.network
    name = "stages.1.blocks.0.attn.qkv.weight"
    for encoder in (network.plain_encoder, network.denoising_encoder):
        assert not torch.equal(encoder.state_dict()[name], starting_weights.encoder[name])
    for name, tensor in network.decoder.state_dict().items():
        assert torch.equal(tensor, starting_weights.decoder[name]), name
    statistics = "patch_embed.conv1.bn.running_mean"
    before = network.plain_encoder.state_dict()[statistics].clone()
    ready.step(batch)
    assert ready.moved == ENCODERS | {"decoder", "aggregation"}
    assert not torch.equal(network.plain_encoder.state_dict()[statistics], before)
    with pytest.raises(TrainingError, match="frozen_stages 0"):
        prepare("random_encoders", frozen_stages=1)
    with pytest.raises(TrainingError, match="recompute_activations false"):
        prepare("random_encoders", recompute_activations=True)


# ---------------------------------------------------------------- Table 9: masks instead of features


def test_masks_are_distilled_instead_of_features(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Focal and L1 loss between the streams' masks and the teacher's; SAM's head stays as it is."""
    ready = prepare("distil_masks")
    network, (module,) = ready.network, ready.losses()
    assert not any(parameter.requires_grad for name, parameter in module.named_parameters() if "head." in name[:5])
    clean, pseudo = ready.targets(batch)
    losses = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
    (losses["plain"] + losses["denoising"]).backward()  # without the aggregation's losses, masks alone move the streams
    assert ready.moved == ENCODERS | {"decoder"}
    head = mask_head_of(starting_weights)
    with torch.no_grad():
        plain = network.plain_levels(batch["pseudo"].float())
        denoising = network.denoising_levels(batch["pseudo"].float())
        for name, levels, target in (("plain", plain, pseudo), ("denoising", denoising, clean)):
            logits = head(network.decoder, levels["embedding"])
            assert logits.shape == target["masks"].shape == (2, 4, 16, 16)
            mask = (target["masks"] > 0).float()
            assert 0 < mask.mean() < 1
            expected = focal(logits, mask) + l1(logits, mask)
            assert losses[name].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["denoising"] > losses["plain"]  # the teacher saw another image, once
    assert not any("head" in name and "mask" in name for name in network.state_dict())  # it is no part of the model
    with pytest.raises(TrainingError, match='needs the feature level "embedding"'):
        prepare("distil_masks", {"feature_levels": ["stage2"]})
    with pytest.raises(TrainingError, match="needs hardest_share 1"):
        prepare("distil_masks", hardest_share=0.1)


def test_masks_of_separate_decoders_are_each_streams_own(prepare: Prepare, batch: dict[str, Any]) -> None:
    ready = prepare("distil_masks", {"decoders": "separate"})
    (module,) = ready.losses()
    losses = module(batch["pseudo"].float(), batch["mask"], *ready.targets(batch))
    (losses["plain"] + losses["denoising"]).backward()
    assert ready.moved == ENCODERS | {"decoder", "denoising_decoder"}


@pytest.mark.usefixtures("no_checkpoints")
def test_a_training_distils_masks(fit: Fit) -> None:
    _, log = fit("distil_masks", steps=2)
    assert all(record["plain"] > 0 and record["denoising"] > 0 for record in log)


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_of_its_objective(fit: Fit) -> None:
    fit("no_aggregation", steps=1)
    with pytest.raises(TrainingError, match=r"another training \(objective no_aggregation, now paper\)"):
        fit("paper", steps=1)
    _, log = fit("no_aggregation", steps=1)
    assert len(log) == 1
