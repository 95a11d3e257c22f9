"""Checkpoints: a run that goes on from one is the run that was not interrupted, and half a checkpoint is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stlm_hub.errors import TrainingError
from stlm_hub.training import checkpoint
from stlm_hub.training.checkpoint import latest, load, save

Optimizers = dict[str, torch.optim.Optimizer]


def setup(seed: int = 0) -> tuple[nn.Sequential, Optimizers]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.Linear(5, 1))
    model[3].requires_grad_(False)
    optimizers: Optimizers = {
        "streams": torch.optim.Adam([*model[0].parameters(), *model[1].parameters()], lr=0.01, betas=(0.5, 0.999)),
        "aggregation": torch.optim.SGD(
            [{"params": [model[2].weight], "lr": 0.1}, {"params": [model[2].bias], "lr": 0.02}], momentum=0.9
        ),
    }
    return model, optimizers


def step(model: nn.Module, optimizers: Optimizers, number: int) -> float:
    random = torch.Generator().manual_seed(number)
    optimizers["streams"].param_groups[0]["lr"] = 0.01 / number
    loss = (model(torch.randn(8, 4, generator=random)) - torch.randn(8, 1, generator=random)).square().mean()
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return loss.item()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_steps_after_restoring_are_bit_equal_to_those_without_interruption(tmp_path: Path) -> None:
    model, optimizers = setup()
    for number in (1, 2, 3):
        step(model, optimizers, number)
    save(tmp_path, 3, model, optimizers, {"identity": {"seed": 0}})
    after = [step(model, optimizers, number) for number in (4, 5)]

    restored, other_optimizers = setup(seed=9)
    newest = latest(tmp_path)
    assert newest is not None
    meta = load(newest, restored, other_optimizers)
    assert meta["step"] == 3 and meta["identity"] == {"seed": 0}
    assert other_optimizers["streams"].param_groups[0]["lr"] == 0.01 / 3
    assert other_optimizers["streams"].param_groups[0]["betas"] == [0.5, 0.999]
    assert [step(restored, other_optimizers, number) for number in (4, 5)] == after
    assert equal(state(restored), state(model))


def test_a_checkpoint_before_the_first_step_can_be_read(tmp_path: Path) -> None:
    model, optimizers = setup()
    save(tmp_path, 0, model, optimizers, {})
    restored, others = setup(seed=9)
    assert load(tmp_path / "step-0000000", restored, others)["step"] == 0
    assert step(model, optimizers, 1) == step(restored, others, 1)


def test_only_safetensors_json_and_the_marker_are_written(tmp_path: Path) -> None:
    model, optimizers = setup()
    step(model, optimizers, 1)
    save(tmp_path, 1, model, optimizers, {})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "step-0000001/complete",
        "step-0000001/model.safetensors",
        "step-0000001/optimizers.safetensors",
        "step-0000001/state.json",
    ]
    assert equal(load_file(tmp_path / "step-0000001/model.safetensors"), state(model))
    assert {name.split(".")[-1] for name in load_file(tmp_path / "step-0000001/optimizers.safetensors")} == {
        "exp_avg",
        "exp_avg_sq",
        "momentum_buffer",
        "step",
    }
    json.loads((tmp_path / "step-0000001/state.json").read_text())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    model, optimizers = setup()
    for number in (8, 9, 10, 100):
        save(tmp_path, number, model, optimizers, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000010", "step-0000100"]
    assert latest(tmp_path) == tmp_path / "step-0000100"


def test_a_folder_without_its_marker_is_not_looked_at_and_not_counted(tmp_path: Path) -> None:
    model, optimizers = setup()
    for number in (1, 2, 3):
        save(tmp_path, number, model, optimizers, {})
    (tmp_path / "step-0000003" / checkpoint.MARKER).unlink()
    assert latest(tmp_path) == tmp_path / "step-0000002"
    save(tmp_path, 4, model, optimizers, {})
    assert (tmp_path / "step-0000002").exists()  # two complete ones, whatever lies beside them
    save(tmp_path, 3, model, optimizers, {})  # the step comes again after a kill
    assert (tmp_path / "step-0000003" / checkpoint.MARKER).exists()


@pytest.mark.parametrize("call", ["save_file", "_sync"])
def test_a_save_that_is_cut_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    model, optimizers = setup()
    save(tmp_path, 1, model, optimizers, {})
    before = state(model)
    step(model, optimizers, 1)
    real, calls = getattr(checkpoint, call), []

    def cut_off(*args: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, call, cut_off)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2, model, optimizers, {})
    assert latest(tmp_path) == tmp_path / "step-0000001"
    load(tmp_path / "step-0000001", model, optimizers)
    assert equal(state(model), before)
    save(tmp_path, 2, model, optimizers, {})  # over what the cut-off one has left
    assert latest(tmp_path) == tmp_path / "step-0000002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000001", "step-0000002"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: 28")])
def test_a_full_disk_is_said_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model, optimizers = setup()
    save(tmp_path, 1, model, optimizers, {})

    def full(*args: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match=r"The checkpoint of step 2 cannot be written .*; make room there"):
        save(tmp_path, 2, model, optimizers, {})
    assert latest(tmp_path) == tmp_path / "step-0000001"


def test_the_marker_comes_after_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizers = setup()
    synced: list[str] = []
    real = checkpoint._sync

    def sync(path: Path) -> None:
        synced.append(path.name)
        assert not list(tmp_path.rglob(checkpoint.MARKER)) or path.name not in files
        real(path)

    files = {"model.safetensors", "optimizers.safetensors", "state.json"}
    monkeypatch.setattr(checkpoint, "_sync", sync)
    save(tmp_path, 1, model, optimizers, {})
    assert files <= set(synced)  # on the disk, not in its cache


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None
    (tmp_path / "step-12").mkdir()
    (tmp_path / "step-12" / checkpoint.MARKER).touch()
    assert latest(tmp_path) is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizers.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "noise", "list"])
def test_a_damaged_checkpoint_is_named_in_one_sentence(tmp_path: Path, file: str, damage: str) -> None:
    model, optimizers = setup()
    step(model, optimizers, 1)
    save(tmp_path, 1, model, optimizers, {})
    path = tmp_path / "step-0000001" / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        noise = bytes(range(256)) * 4
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": noise, "list": b"[]"}[damage])
    with pytest.raises(TrainingError, match=r"step-0000001 does not fit this training .*another output folder\."):
        load(tmp_path / "step-0000001", model, optimizers)


def test_a_checkpoint_of_another_model_or_other_optimizers_is_refused(tmp_path: Path) -> None:
    model, optimizers = setup()
    step(model, optimizers, 1)
    save(tmp_path, 1, model, optimizers, {})
    with pytest.raises(TrainingError, match="does not fit"):
        load(tmp_path / "step-0000001", nn.Linear(4, 6), optimizers)
    with pytest.raises(TrainingError, match="does not fit"):
        load(tmp_path / "step-0000001", model, {"more": optimizers["streams"]})
    fewer = torch.optim.Adam(model[0].parameters())
    with pytest.raises(TrainingError, match="does not fit"):
        load(tmp_path / "step-0000001", model, {"streams": fewer})
