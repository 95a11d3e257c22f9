"""The training loop at 64 px with random starting weights: what moves, what is remembered, what is refused."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_script import run_script

from stlm_hub.errors import TrainingError, WeightsError
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.pseudo_anomalies.synthesis import SynthesisConfig
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import checkpoint, loop
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.data import NormalPhotographs
from stlm_hub.training.loop import StepReport, train
from stlm_hub.training.objective import Losses, freeze, load_starting_weights, make_optimizers
from stlm_hub.training.targets import Targets
from stlm_hub.training.teacher import MobileTeacher

PAPER = ("embedding", "decoder")
ALL = ("stage1", "stage2", "embedding", "decoder")
LOSSES = ("plain", "denoising", "focal", "l1", "total")


@dataclass
class Fit:
    network: STLMNetwork
    log: list[dict[str, float]]

    @property
    def losses(self) -> list[list[float]]:
        return [[record[name] for name in LOSSES] for record in self.log]


def settings(**fields: Any) -> TrainingConfig:
    return TrainingConfig(**{"teacher": "mobile", "precision": "no", "checkpoint_every": 1000, **fields})


@pytest.fixture
def fit(
    photographs: list[Path],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    textures: TextureSource,
) -> Callable[..., Fit]:
    def fit(
        folder: Path,
        *,
        model: dict[str, Any] | None = None,
        network_seed: int = 0,
        paths: list[Path] | None = None,
        weights: StartingWeights = starting_weights,
        on_step: Callable[[StepReport], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        pasted: TextureSource = textures,
        teacher_checkpoint: Path | None = None,
        **fields: Any,
    ) -> Fit:
        network = make_network(network_seed, **(model or {}))
        log = train(
            network,
            photographs if paths is None else paths,
            settings(**fields),
            weights,
            folder,
            textures=pasted,
            teacher_checkpoint=teacher_checkpoint,
            on_step=on_step,
            should_stop=should_stop,
        )
        return Fit(network, log)

    return fit


@pytest.fixture
def no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests about other things: a checkpoint has up to 200 MB."""
    monkeypatch.setattr(checkpoint, "save", lambda *_: None)


def is_trained(name: str, config: TrainingConfig, levels: tuple[str, ...]) -> bool:
    """Whether a parameter of this name should move."""
    part, _, rest = name.partition(".")
    if part == "aggregation":
        return True
    if part == "decoder":
        return "decoder" in levels and "final_attn" not in rest
    if part == "plain_encoder" and config.plain_stream == "frozen":
        return False
    last = 3 if {"embedding", "decoder"} & set(levels) else max(int(level[-1]) for level in levels)
    stage = {"patch_embed": -1, "neck": 4}.get(rest.split(".")[0], 0) or int(rest.split(".")[1])
    if stage == 4:
        return last == 3
    return stage <= last and (config.frozen_stages == 0 or stage >= config.frozen_stages)


@pytest.mark.usefixtures("no_checkpoints")
@pytest.mark.parametrize(
    "levels, fields",
    [
        (PAPER, {}),
        (PAPER, {"plain_stream": "frozen", "frozen_stages": 1}),
        (ALL, {"plain_stream": "frozen", "frozen_stages": 1}),
        (ALL, {"frozen_stages": 1}),  # the recipe of the profile `cpu` and of fine-tuning
        (("stage1", "stage2"), {"frozen_stages": 1}),
        (("stage1",), {}),
        (("embedding",), {"frozen_stages": 3}),
    ],
)
def test_what_should_train_moves_and_nothing_else(
    fit: Callable[..., Fit],
    starting_weights: StartingWeights,
    make_network: Callable[..., STLMNetwork],
    run_folder: Path,
    levels: tuple[str, ...],
    fields: dict[str, Any],
) -> None:
    before = {name: tensor.clone() for name, tensor in make_network(feature_levels=levels).state_dict().items()}
    for stream in ("plain_encoder", "denoising_encoder"):
        before |= {f"{stream}.{name}": tensor for name, tensor in starting_weights.encoder.items()}
    before |= {f"decoder.{name}": tensor for name, tensor in starting_weights.decoder.items()}

    result = fit(run_folder, model={"feature_levels": levels}, steps=2, **fields)
    assert [record["step"] for record in result.log] == [1, 2]
    assert all(math.isfinite(loss) for record in result.losses for loss in record)
    assert result.log[0]["plain"] == pytest.approx(0, abs=1e-5)  # both are the starting weights; the target is rounded
    assert result.log[0]["total"] == pytest.approx(sum(result.losses[0][:4]), rel=1e-5)

    after = result.network.state_dict()
    config = settings(**fields)
    parameters = {name for name, _ in result.network.named_parameters()}
    moved = {name for name in parameters if not torch.equal(before[name], after[name])}
    assert moved == {name for name in parameters if is_trained(name, config, levels)}
    for name in after.keys() - parameters:  # BatchNorm statistics, positions
        assert torch.equal(before[name], after[name]) != name.startswith("aggregation."), name


@pytest.mark.usefixtures("no_checkpoints")
def test_a_step_tells_what_it_did(fit: Callable[..., Fit], run_folder: Path) -> None:
    reports: list[StepReport] = []
    result = fit(run_folder, steps=3, plain_stream="frozen", warmup_steps=2, on_step=reports.append)
    assert [(report.step, report.total) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert [[report.losses[name] for name in LOSSES] for report in reports] == result.losses
    assert all(report.seconds_per_step > 0 for report in reports)
    assert [report.seconds_left for report in reports] == [(3 - r.step) * r.seconds_per_step for r in reports]
    assert [record["learning_rate"] for record in result.log] == pytest.approx([2.5e-4, 5e-4, 5e-4])
    written = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    assert written == result.log
    assert list(run_folder.rglob("events.out.tfevents*"))
    assert not result.network.training


# ---------------------------------------------------------------- losses and gradients


def prepared(
    make_network: Callable[..., STLMNetwork], weights: StartingWeights, levels: tuple[str, ...], **fields: Any
) -> Losses:
    network = make_network(feature_levels=levels)
    load_starting_weights(network, weights)
    config = settings(**fields)
    freeze(network, config)
    return Losses(network.train(), config)


def losses_of(module: Losses, weights: StartingWeights, batch: dict[str, Any]) -> dict[str, Tensor]:
    wanted = {*module.network.config.feature_levels, "embedding"}
    clean, pseudo = Targets(MobileTeacher(weights, sorted(wanted)), 0)(batch, torch.device("cpu"))
    return module(batch["pseudo"].float(), batch["mask"], clean, pseudo)


@pytest.mark.parametrize(
    "levels, fields",
    [
        (PAPER, {}),
        (("stage2", *PAPER), {"plain_stream": "frozen", "frozen_stages": 2}),
        (ALL, {"frozen_stages": 1}),
        (("decoder",), {"frozen_stages": 3}),
        (("stage1",), {"frozen_stages": 1}),
        (("stage2",), {"plain_stream": "frozen"}),
    ],
)
def test_every_parameter_that_wants_a_gradient_gets_one(
    make_network: Callable[..., STLMNetwork],
    starting_weights: StartingWeights,
    batch: dict[str, Any],
    levels: tuple[str, ...],
    fields: dict[str, Any],
) -> None:
    """Distributed training waits for the gradients of all parameters that are not frozen."""
    module = prepared(make_network, starting_weights, levels, **fields)
    losses_of(module, starting_weights, batch)["total"].backward()
    for name, parameter in module.network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.requires_grad == is_trained(name, module.config, levels), name


def test_the_aggregation_teaches_the_plain_stream_behind_the_stage_that_both_share(
    make_network: Callable[..., STLMNetwork], starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """At the mobile teacher's weights its own loss is zero: what it learns comes from the aggregation."""
    module = prepared(make_network, starting_weights, ALL, frozen_stages=1)
    clean, pseudo = Targets(MobileTeacher(starting_weights, sorted(ALL), 1), 0)(batch, torch.device("cpu"))
    assert "trunk" in pseudo
    losses = module(batch["pseudo"].float(), batch["mask"], clean, pseudo)
    assert losses["plain"].item() < 1e-4
    (losses["focal"] + losses["l1"]).backward()
    for stage, blocks in enumerate(module.network.plain_encoder.stages):
        gradients = [parameter.grad for parameter in blocks.parameters()]
        if stage:
            assert all(gradient is not None for gradient in gradients) and any(g.abs().max() > 0 for g in gradients)
        else:
            assert all(gradient is None for gradient in gradients)


def test_shared_frozen_stages_and_a_frozen_plain_stream_change_no_loss(
    make_network: Callable[..., STLMNetwork], starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    """At the starting weights the two are shortcuts, not another training."""
    losses = [
        losses_of(prepared(make_network, starting_weights, ALL, **fields), starting_weights, batch)
        for fields in (
            {},
            {"frozen_stages": 2},
            {"plain_stream": "frozen"},
            {"plain_stream": "frozen", "frozen_stages": 1},
        )
    ]
    assert losses[0]["denoising"] > 1e-3
    for other in losses[1:]:
        for name in LOSSES:
            assert other[name].item() == pytest.approx(losses[0][name].item(), rel=1e-3, abs=1e-5), name


def test_the_plain_stream_follows_the_pseudo_anomalous_the_denoising_stream_the_clean_image(
    make_network: Callable[..., STLMNetwork], starting_weights: StartingWeights, batch: dict[str, Any]
) -> None:
    module = prepared(make_network, starting_weights, PAPER)
    right = losses_of(module, starting_weights, batch)
    assert right["plain"] < 1e-5 < 1e-3 < right["denoising"]
    clean, pseudo = Targets(MobileTeacher(starting_weights, PAPER), 0)(batch, torch.device("cpu"))
    swapped = module(batch["pseudo"].float(), batch["mask"], pseudo, clean)
    assert swapped["plain"].item() == pytest.approx(right["denoising"].item(), abs=1e-5)
    assert swapped["denoising"] < 1e-5


# ---------------------------------------------------------------- optimisers and learning rates


def test_the_optimizers_are_the_papers(make_network: Callable[..., STLMNetwork]) -> None:
    network = make_network()
    optimizers = make_optimizers(network, settings())
    adam, sgd = optimizers["streams"], optimizers["aggregation"]
    assert type(adam) is torch.optim.Adam and type(sgd) is torch.optim.SGD
    assert (adam.defaults["lr"], adam.defaults["betas"], adam.defaults["weight_decay"]) == (5e-4, (0.5, 0.999), 0)
    groups = [(group["lr"], group["momentum"], group["weight_decay"]) for group in sgd.param_groups]
    assert groups == [(0.1, 0.9, 1e-4), (0.01, 0.9, 1e-4)]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    residual, head = ([names[id(p)] for p in group["params"]] for group in sgd.param_groups)
    assert all(name.startswith("aggregation.residual.") for name in residual)
    assert all(name.startswith("aggregation.head.") for name in head)
    streams = [names[id(p)] for p in adam.param_groups[0]["params"]]
    everything = streams + residual + head
    assert len(everything) == len(set(everything))
    assert set(everything) == {name for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.usefixtures("no_checkpoints")
def test_all_learning_rates_follow_the_factor(
    fit: Callable[..., Fit], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, torch.optim.Optimizer] = {}
    seen: list[list[float]] = []
    real = make_optimizers
    monkeypatch.setattr(loop, "make_optimizers", lambda *args: made.update(real(*args)) or made)
    fit(
        run_folder,
        steps=3,
        plain_stream="frozen",
        warmup_steps=2,
        final_learning_rate=0.1,
        on_step=lambda _: seen.append([group["lr"] for name in made for group in made[name].param_groups]),
    )
    fall = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]
    for rates, factor in zip(seen, (0.5 * fall[0], fall[1], fall[2]), strict=True):
        assert rates == pytest.approx([5e-4 * factor, 0.1 * factor, 0.01 * factor])


@pytest.mark.usefixtures("no_checkpoints")
def test_the_gradient_is_clipped_as_a_whole(
    fit: Callable[..., Fit], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[STLMNetwork] = []

    def remember(network: STLMNetwork, config: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
        networks.append(network)
        return make_optimizers(network, config)

    monkeypatch.setattr(loop, "make_optimizers", remember)

    def norm(clip: float) -> float:
        norms: list[float] = []

        def measure(_: StepReport) -> None:
            gradients = [p.grad.flatten() for p in networks[-1].parameters() if p.grad is not None]
            norms.append(torch.cat(gradients).double().norm().item())

        fit(run_folder / str(clip), steps=1, plain_stream="frozen", gradient_clip=clip, on_step=measure)
        return norms[0]

    free = norm(0.0)
    assert norm(free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert norm(free * 10) == pytest.approx(free, rel=1e-3)


@pytest.mark.usefixtures("no_checkpoints")
def test_trainings_of_one_process_may_differ_in_precision(fit: Callable[..., Fit], run_folder: Path) -> None:
    exact, half, again = (
        fit(run_folder / str(i), steps=1, plain_stream="frozen", precision=precision).log[0]["total"]
        for i, precision in enumerate(("no", "bf16", "no"))
    )
    assert exact == again != half
    assert half == pytest.approx(exact, rel=0.05)


# ---------------------------------------------------------------- determinism, interruption, learning


@pytest.mark.usefixtures("no_checkpoints")
def test_a_seed_decides_the_run(fit: Callable[..., Fit], run_folder: Path) -> None:
    fields = {"steps": 2, "plain_stream": "frozen", "rotation": "quarter"}
    torch.manual_seed(1)
    first = fit(run_folder / "1", seed=5, **fields)
    torch.manual_seed(2)
    second = fit(run_folder / "2", seed=5, **fields)
    assert first.losses == second.losses
    theirs = second.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in first.network.state_dict().items())
    assert fit(run_folder / "3", seed=6, **fields).losses[0] != first.losses[0]


@pytest.mark.usefixtures("no_checkpoints")
def test_what_the_teacher_cache_holds_changes_no_loss(
    fit: Callable[..., Fit], photographs: list[Path], run_folder: Path
) -> None:
    fields = {"steps": 3, "plain_stream": "frozen", "paths": photographs[:2]}
    with_cache = fit(run_folder / "1", **fields)
    assert fit(run_folder / "2", feature_cache_bytes=0, **fields).losses == with_cache.losses


@pytest.mark.usefixtures("no_checkpoints")
def test_it_learns(
    fit: Callable[..., Fit], photographs: list[Path], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same two pasted photographs again and again: with new anomalies each step has a loss of its own."""
    draw = NormalPhotographs.__getitem__
    monkeypatch.setattr(NormalPhotographs, "__getitem__", lambda self, key: draw(self, (0, key[1])))
    result = fit(
        run_folder,
        model={"aggregation_channels": 32, "feature_levels": ["stage1", "stage2", "embedding", "decoder"]},
        paths=photographs[:2],
        steps=24,
        synthesis=SynthesisConfig(probability=1.0),
    )
    totals = [record["total"] for record in result.log]
    assert sum(totals[-4:]) < 0.6 * sum(totals[:4])
    for name in ("denoising", "focal", "l1"):
        assert result.log[-1][name] < 0.6 * result.log[0][name], name


def test_a_killed_run_goes_on_with_the_losses_it_would_have_had(
    fit: Callable[..., Fit],
    photographs: list[Path],
    starting_weights: StartingWeights,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Five photographs come back within six steps: the teacher's features are kept before and gone after the kill.
    fields: dict[str, Any] = {"steps": 6, "warmup_steps": 2, "final_learning_rate": 0.1, "rotation": "quarter"}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", lambda *_: None)
        whole = fit(run_folder / "whole", paths=photographs[:5], checkpoint_every=2, **fields)

    killed = run_folder / "killed"
    result = run_script(
        [], tmp_path, starting_weights, photographs[:5], killed, settings(checkpoint_every=2, **fields), kill_at=3
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert len((killed / "log.jsonl").read_text().splitlines()) == 3  # one step more than the checkpoint knows
    assert checkpoint.latest(killed / "checkpoints") == killed / "checkpoints" / "step-0000002"
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "pla')  # what a kill in the middle of writing leaves

    reports: list[StepReport] = []
    resumed = fit(killed, paths=photographs[:5], checkpoint_every=2, network_seed=9, on_step=reports.append, **fields)
    assert [report.step for report in reports] == [3, 4, 5, 6]
    assert [record["step"] for record in resumed.log] == [1, 2, 3, 4, 5, 6]
    assert resumed.losses == whole.losses
    theirs = whole.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in resumed.network.state_dict().items())
    assert [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()] == resumed.log

    # a finished run has nothing left to do, and its network is the trained one
    again = fit(killed, paths=photographs[:5], checkpoint_every=2, on_step=reports.append, **fields)
    assert again.log == resumed.log and len(reports) == 4
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in again.network.state_dict().items())


def test_a_run_can_be_stopped_and_belongs_to_its_photographs_settings_and_weights(
    fit: Callable[..., Fit], photographs: list[Path], starting_weights: StartingWeights, run_folder: Path
) -> None:
    fields: dict[str, Any] = {"steps": 4, "plain_stream": "frozen", "frozen_stages": 3}
    done: list[int] = []
    stopped = fit(
        run_folder, on_step=lambda report: done.append(report.step), should_stop=lambda: len(done) == 1, **fields
    )
    assert done == [1, 2] and len(stopped.log) == 2
    assert checkpoint.latest(run_folder / "checkpoints") == run_folder / "checkpoints" / "step-0000002"

    others: list[dict[str, Any]] = [
        {"paths": photographs[1:]},
        {"seed": 1},
        {"steps": 5},
        {"pasted": TextureSource(photographs[:1])},
        {"weights": StartingWeights(starting_weights.encoder, starting_weights.decoder, sha256="cd" * 32)},
    ]
    for changed in others:
        with pytest.raises(TrainingError, match=re.escape(f"{run_folder}") + ".*another output folder or delete"):
            fit(run_folder, **{**fields, **changed})
    with pytest.raises(TrainingError, match=r"another training \(aggregation_channels 8, now 16\)"):
        fit(run_folder, model={"aggregation_channels": 16}, **fields)
    with pytest.raises(
        TrainingError, match=r"another training \(plain_stream frozen, now trained\)"
    ):  # of an older version
        fit(run_folder, **{**fields, "plain_stream": "trained"})
    assert len((run_folder / "log.jsonl").read_text().splitlines()) == 2  # a refusal leaves the folder as it was

    state = run_folder / "checkpoints" / "step-0000002" / "state.json"
    meta = json.loads(state.read_text())
    for name in ("weights", "processes", "textures", "teacher"):
        del meta["identity"][name]  # a checkpoint that does not know them yet
    del meta["identity"]["config"]["hardest_share"], meta["identity"]["model"]["aggregation_input"]
    del meta["identity"]["config"]["objective"], meta["identity"]["config"]["synthesis"]["on_part"]
    state.write_text(json.dumps(meta))
    for changed in (
        {"hardest_share": 0.1},
        {"model": {"aggregation_input": "subtraction"}},
        {"synthesis": SynthesisConfig(on_part=True)},
    ):
        with pytest.raises(
            TrainingError,
            match=r"another training \((aggregation_input|hardest|synthesis).*another output folder or delete",
        ):
            fit(run_folder, **{**fields, **changed})  # what it does not know had its default
    fields |= {"checkpoint_every": 3, "feature_cache_bytes": 0}  # change no loss
    resumed = fit(run_folder, on_step=lambda report: done.append(report.step), **fields)
    assert done == [1, 2, 3, 4] and len(resumed.log) == 4
    assert resumed.losses[:2] == stopped.losses
    newest = checkpoint.latest(run_folder / "checkpoints")
    assert newest is not None
    for damage in ("[]", "{}"):
        (newest / "state.json").write_text(damage)
        with pytest.raises(TrainingError, match="does not say what training it is of"):
            fit(run_folder, **fields)


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(fit: Callable[..., Fit], run_folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step [23]; lower learning_rate"):
        fit(run_folder, steps=4, learning_rate=1e9, plain_stream="frozen")
    assert checkpoint.latest(run_folder / "checkpoints") is None


@pytest.mark.parametrize(
    "levels, frozen_stages",
    [(("stage1",), 2), (("stage1", "stage2"), 3), (("stage1", "embedding"), 3), (("stage2",), 3)],
)
def test_frozen_stages_that_leave_nothing_to_train_or_read_are_refused(
    fit: Callable[..., Fit], run_folder: Path, levels: tuple[str, ...], frozen_stages: int
) -> None:
    with pytest.raises(TrainingError, match=f"frozen_stages {frozen_stages}.*fewer frozen_stages"):
        fit(run_folder, model={"feature_levels": levels}, steps=1, frozen_stages=frozen_stages)


def test_a_teacher_that_is_missing_is_said_first(fit: Callable[..., Fit], run_folder: Path) -> None:
    with pytest.raises(WeightsError, match="needs Segment Anything's checkpoint"):
        fit(run_folder, steps=1, teacher="vit_b", teacher_checkpoint=run_folder / "nowhere.pth")
    assert not run_folder.exists()


def test_no_photographs_are_refused(fit: Callable[..., Fit], run_folder: Path) -> None:
    with pytest.raises(TrainingError, match="no photographs"):
        fit(run_folder, paths=[], steps=1)
