"""The paper's ablations, each by what it changes in a training step: gradients, losses, weights, inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stlm_hub.errors import ConfigError, TrainingError
from stlm_hub.models.stlm import image_encoder
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.data import NormalPhotographs, collate
from stlm_hub.training.loop import train
from stlm_hub.training.losses import cosine_distillation, focal, l1, mask_on_grid
from stlm_hub.training.objective import LossModule, check, freeze, load_starting_weights, make_optimizers
from stlm_hub.training.pseudo_anomalies.textures import TextureSource
from stlm_hub.training.targets import Targets
from stlm_hub.training.teacher import MobileTeacher

Prepare = Callable[..., LossModule]


def settings(**fields: Any) -> TrainingConfig:
    return TrainingConfig(**{"teacher": "mobile", "precision": "no", **fields})


@pytest.fixture(scope="module")
def batch(photographs: list[Path], textures: TextureSource) -> dict[str, Any]:
    dataset = NormalPhotographs(photographs, 64, settings(), textures)
    samples = [dataset[0, i] for i in range(8)]
    return collate([next(s for s in samples if s["pasted"]), next(s for s in samples if not s["pasted"])])


@pytest.fixture
def prepare(starting_weights: StartingWeights) -> Prepare:
    def prepare(model: dict[str, Any] | None = None, **fields: Any) -> LossModule:
        torch.manual_seed(0)
        network = STLMNetwork(STLMConfig.from_dict({"image_size": 64, "aggregation_channels": 8, **(model or {})}))
        config = settings(**fields)
        check(network.config, config)
        load_starting_weights(network, starting_weights, config)
        freeze(network, config)
        return LossModule(network.train(), config, starting_weights)

    return prepare


def targets(
    weights: StartingWeights, batch: dict[str, Any], trunk_depth: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    teacher = MobileTeacher(weights, ("embedding", "decoder", "stage1", "stage2", "masks"), trunk_depth)
    return Targets(teacher, 0)(batch, torch.device("cpu"))


def step(module: LossModule, weights: StartingWeights, batch: dict[str, Any], stage: str) -> dict[str, Tensor]:
    """One backward pass as the loop does it."""
    clean, pseudo = targets(weights, batch)
    if module.config.teacher == "none":
        clean, pseudo = {"image": batch["clean"].float()}, {}
    losses = module(batch["pseudo"].float(), batch["mask"], clean, pseudo, stage)
    losses["total"].backward()
    return losses


def moved(module: LossModule) -> set[str]:
    """Parts of the network that the gradient reached."""
    return {
        name.split(".")[0]
        for name, parameter in module.network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


ENCODERS = {"plain_encoder", "denoising_encoder"}


def test_one_stage_trains_everything_at_once(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    module = prepare()
    losses = step(module, starting_weights, batch, module.config.stage(0, 10))
    assert moved(module) == ENCODERS | {"decoder", "aggregation"}
    assert losses["total"] == sum(losses[name] for name in ("plain", "denoising", "focal", "l1"))


@pytest.mark.parametrize("teacher", ["mobile", "none"])
def test_the_denoising_and_the_focal_loss_are_of_the_hardest_positions(
    teacher: str, prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    whole = step(prepare(teacher=teacher), starting_weights, batch, "all")
    module = prepare(teacher=teacher, hardest_share=0.1)
    hardest = step(module, starting_weights, batch, "all")
    for name in ("denoising", "focal"):
        assert hardest[name] > 1.2 * whole[name]
    assert (hardest["plain"], hardest["l1"]) == (whole["plain"], whole["l1"])
    network = module.network
    with torch.no_grad():
        plain, denoising = (
            levels(batch["pseudo"].float()) for levels in (network.plain_levels, network.denoising_levels)
        )
        clean = (
            network.plain_levels(batch["clean"].float()) if teacher == "none" else targets(starting_weights, batch)[0]
        )
        logits = network.aggregate(plain, denoising)
    assert hardest["denoising"].item() == pytest.approx(cosine_distillation(denoising, clean, 0.1).item(), rel=1e-3)
    mask = mask_on_grid(batch["mask"], (logits.shape[-2], logits.shape[-1]))
    assert hardest["focal"].item() == pytest.approx(focal(logits, mask, hardest_share=0.1).item(), rel=1e-3)


def test_two_stages_train_the_streams_first_and_then_the_aggregation_alone(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 5."""
    stages = [settings(aggregation="two_stage").stage(i, 5) for i in range(5)]
    assert stages == ["streams", "streams", "aggregation", "aggregation", "aggregation"]
    config = settings(aggregation="two_stage", steps=3)
    assert config.total_steps(100) == 6
    assert [config.step_in_stage(i, 6) for i in range(6)] == [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3), (2, 3)]
    assert settings(steps=3).step_in_stage(2, 3) == (2, 3)
    first, second = prepare(aggregation="two_stage"), prepare(aggregation="two_stage")
    losses = step(first, starting_weights, batch, "streams")
    assert moved(first) == ENCODERS | {"decoder"}
    assert (losses["focal"], losses["l1"]) == (0, 0) and losses["total"] > 1e-3
    losses = step(second, starting_weights, batch, "aggregation")
    assert moved(second) == {"aggregation"}
    assert losses["focal"] > 0 and losses["l1"] > 0


def test_a_stage_moves_no_weight_of_the_other(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
    run_folder: Path,
) -> None:
    """Neither by momentum nor by weight decay: the loop of two steps is one step of each stage."""
    network, reference = make_network(), make_network()
    states: list[dict[str, Tensor]] = []

    def keep(_report: object) -> None:
        states.append({name: p.detach().clone() for name, p in network.named_parameters()})

    config = settings(aggregation="two_stage", steps=1, checkpoint_every=10)  # of each stage
    log = train(network, photographs, config, starting_weights, run_folder, textures=textures, on_step=keep)
    before = dict(reference.named_parameters())
    after, end = states
    assert all(torch.equal(after[n], before[n]) for n in after if n.startswith("aggregation."))
    assert all(torch.equal(end[n], after[n]) for n in after if not n.startswith("aggregation."))
    assert any(not torch.equal(end[n], after[n]) for n in after if n.startswith("aggregation."))
    assert log[0]["focal"] == 0 < log[1]["focal"]


def test_without_aggregation_only_the_streams_learn(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 4, strategy [46]: the module stays as it was, so the map must be that of the cosines."""
    module = prepare({"anomaly_map": "cosine"}, aggregation="none")
    assert {module.config.stage(i, 4) for i in range(4)} == {"streams"}
    step(module, starting_weights, batch, "streams")
    assert moved(module) == ENCODERS | {"decoder"}
    with pytest.raises(TrainingError, match='set anomaly_map "cosine"'):
        prepare(aggregation="none")


def test_without_a_plain_student_the_plain_stream_is_the_teacher(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 4: in training and, since nothing of it moves, in the finished network too."""
    module = prepare({"decoders": "separate"}, plain_stream="teacher")
    losses = step(module, starting_weights, batch, "all")
    assert moved(module) == {"denoising_encoder", "denoising_decoder", "aggregation"}
    assert losses["plain"] == pytest.approx(0, abs=1e-6)
    _, pseudo = targets(starting_weights, batch)
    with torch.no_grad():
        plain = module.network.plain_levels(batch["pseudo"].float())
    for level, feature in plain.items():  # the target is rounded to half precision
        torch.testing.assert_close(feature, pseudo[level], rtol=2e-3, atol=2e-3)
    with pytest.raises(TrainingError, match='set decoders "separate"'):
        prepare(plain_stream="teacher")
    with pytest.raises(ConfigError, match='needs teacher "mobile"'):
        settings(teacher="vit_h", plain_stream="teacher")


def test_without_a_mask_decoder_it_is_out_of_the_loss(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 4 and, with the decoder's level alone, Fig. 11."""
    module = prepare({"feature_levels": ["embedding"]})
    losses = step(module, starting_weights, batch, "all")
    assert moved(module) == ENCODERS | {"aggregation"}
    alone = prepare({"feature_levels": ["decoder"]})
    second = step(alone, starting_weights, batch, "all")
    assert moved(alone) == ENCODERS | {"decoder", "aggregation"}
    both = step(prepare(), starting_weights, batch, "all")
    assert both["denoising"].item() == pytest.approx((losses["denoising"] + second["denoising"]).item(), rel=1e-4)


def test_without_a_teacher_the_streams_learn_from_each_other(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 7: clean image into the plain stream, pasted one into the denoising stream, no third network."""
    module = prepare(teacher="none")
    losses = step(module, starting_weights, batch, "all")
    assert losses["plain"] == 0
    network = module.network
    with torch.no_grad():
        clean = network.plain_levels(batch["clean"].float())
        pasted = network.denoising_levels(batch["pseudo"].float())
        expected = sum(1 - torch.nn.functional.cosine_similarity(clean[k], pasted[k], dim=1).mean() for k in clean)
    assert losses["denoising"].item() == pytest.approx(float(expected), rel=1e-4)
    streams = prepare(teacher="none")
    step(streams, starting_weights, batch, "streams")  # no loss of the aggregation: the distance alone moves both
    assert moved(streams) == ENCODERS | {"decoder"}


def test_a_training_without_a_teacher_runs_and_resumes_nothing_from_one(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stlm_hub.training.loop.build_teacher", lambda *_: pytest.fail("there is no teacher"))
    log = train(
        make_network(), photographs, settings(teacher="none", steps=2), starting_weights, run_folder, textures=textures
    )
    assert [record["plain"] for record in log] == [0, 0]
    assert all(record["denoising"] > 0 for record in log)


def test_masks_are_distilled_instead_of_features(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 9: focal and L1 loss between the streams' masks and the teacher's; SAM's head stays as it is."""
    module = prepare(distillation="masks")
    network, head = module.network, module.mask_head
    assert head is not None and not any(p.requires_grad for p in head.parameters())
    # without the aggregation's losses, masks alone move the streams
    losses = step(module, starting_weights, batch, "streams")
    assert moved(module) == ENCODERS | {"decoder"}
    clean, pseudo = targets(starting_weights, batch)
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
    assert not any("mask_head" in name for name in network.state_dict())  # it is no part of the model
    with pytest.raises(TrainingError, match='needs the feature level "embedding"'):
        prepare({"feature_levels": ["stage2"]}, distillation="masks")
    with pytest.raises(ConfigError, match="needs a teacher whose masks"):
        settings(teacher="none", distillation="masks")
    with pytest.raises(ConfigError, match="needs hardest_share 1"):
        settings(distillation="masks", hardest_share=0.1)


def test_masks_of_separate_decoders_are_each_streams_own(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    module = prepare({"decoders": "separate"}, distillation="masks")
    step(module, starting_weights, batch, "streams")
    assert moved(module) == ENCODERS | {"decoder", "denoising_decoder"}


def test_a_training_distils_masks(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
    run_folder: Path,
) -> None:
    config = settings(distillation="masks", steps=2)
    log = train(make_network(), photographs, config, starting_weights, run_folder, textures=textures)
    assert all(record["plain"] > 0 and record["denoising"] > 0 for record in log)


def test_random_encoders_start_from_nothing_and_learn_their_statistics(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Table 8: the decoder still is SAM's."""
    module = prepare(encoder_weights="random")
    network = module.network
    name = "stages.1.blocks.0.attn.qkv.weight"
    for encoder in (network.plain_encoder, network.denoising_encoder):
        assert not torch.equal(encoder.state_dict()[name], starting_weights.encoder[name])
    for name, tensor in network.decoder.state_dict().items():
        assert torch.equal(tensor, starting_weights.decoder[name]), name
    statistics = "patch_embed.conv1.bn.running_mean"
    before = network.plain_encoder.state_dict()[statistics].clone()
    step(module, starting_weights, batch, "all")
    assert not torch.equal(network.plain_encoder.state_dict()[statistics], before)
    with pytest.raises(ConfigError, match="frozen_stages 0"):
        settings(encoder_weights="random", frozen_stages=1)
    with pytest.raises(ConfigError, match="recompute_activations false"):
        settings(encoder_weights="random", recompute_activations=True)


def test_separate_decoders_are_two_that_both_learn(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """Fig. 5."""
    module = prepare({"decoders": "separate"})
    network = module.network
    assert network.denoising_decoder is not None
    shared = sum(p.numel() for p in prepare().network.parameters())
    decoder = sum(p.numel() for p in network.decoder.parameters())
    assert sum(p.numel() for p in network.parameters()) == shared + decoder
    step(module, starting_weights, batch, "all")
    assert moved(module) == ENCODERS | {"decoder", "denoising_decoder", "aggregation"}
    made = make_optimizers(network, module.config)["streams"]
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
def test_the_teachers_trunk_is_the_streams_own(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any], depth: int
) -> None:
    """Frozen stages computed once change no loss."""
    module = prepare({"feature_levels": ["stage2", "embedding", "decoder"]}, frozen_stages=depth)
    clean, pseudo = targets(starting_weights, batch, depth)
    assert pseudo["trunk"].shape == module.network.plain_encoder.trunk(batch["pseudo"].float(), depth).shape
    with torch.no_grad():
        shared = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
        del pseudo["trunk"]
        own = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
    assert own["denoising"] > 1e-3
    for name, loss in own.items():
        assert shared[name].item() == pytest.approx(loss.item(), rel=2e-3, abs=1e-5), name


def test_recomputed_activations_change_no_gradient(
    prepare: Prepare, starting_weights: StartingWeights, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, recomputed = prepare(), prepare()
    calls: list[int] = []
    real = image_encoder.checkpoint
    monkeypatch.setattr(image_encoder, "checkpoint", lambda *args, **options: calls.append(1) or real(*args, **options))
    for encoder in (recomputed.network.plain_encoder, recomputed.network.denoising_encoder):
        encoder.recompute_activations = True
    losses = [step(module, starting_weights, batch, "all") for module in (kept, recomputed)]
    assert len(calls) == 8  # four stages of two streams
    assert losses[0]["total"].item() == pytest.approx(losses[1]["total"].item(), rel=1e-6)
    for (name, one), (_, other) in zip(
        kept.network.named_parameters(), recomputed.network.named_parameters(), strict=True
    ):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
