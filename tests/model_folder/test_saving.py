"""A model into a folder and back: the real networks once, the rest on streams of a few weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from drawn import judging_by, texture
from safetensors import safe_open
from safetensors.torch import load_file

from stlm_hub.errors import ConfigError, WeightsError
from stlm_hub.model_folder.names import CALIBRATION_NAME, CONFIG_NAME, FAMILIARITY_NAME, MEMORY_NAME, WEIGHTS_NAME
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.stlm import STLM


@pytest.mark.parametrize("kind", ["without", "with"])
def test_a_model_comes_back_as_it_was_saved(kind: str, request: pytest.FixtureRequest) -> None:
    """The real networks, without a memory and with one, in float16."""
    model: STLM = request.getfixturevalue("tiny_model" if kind == "without" else "tiny_memory_model")
    folder: Path = request.getfixturevalue("saved_model" if kind == "without" else "saved_memory_model")
    names = {CONFIG_NAME, CALIBRATION_NAME, WEIGHTS_NAME, FAMILIARITY_NAME}
    names |= {MEMORY_NAME} if kind == "with" else set()
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / CONFIG_NAME).read_text()) == model.config.to_dict()
    assert json.loads((folder / CALIBRATION_NAME).read_text()) == model.judging.to_dict()
    loaded = STLM.from_pretrained(folder, device="cpu")
    assert (loaded.config, loaded.judging, loaded.name) == (model.config, model.judging, folder.name)
    assert not any(module.training for module in loaded.modules())
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for name, tensor in loaded.state_dict().items():
        kept = not state[name].is_floating_point() or name.startswith("familiarity.")
        wanted = state[name] if kept else state[name].half().float()
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, wanted), name
    one, other = loaded.predict(texture(70, 90)), model.predict(texture(70, 90))
    assert one.threshold == other.threshold and one.score == pytest.approx(other.score, abs=0.02)


@pytest.mark.usefixtures("toy_streams")
def test_weights_are_kept_exactly_without_a_dtype(toy_memory_model: STLM, tmp_path: Path) -> None:
    toy_memory_model.save_pretrained(tmp_path)
    parts = {
        WEIGHTS_NAME: toy_memory_model.network,
        MEMORY_NAME: toy_memory_model.patch_memory,
        FAMILIARITY_NAME: toy_memory_model.familiarity,
    }
    for name, part in parts.items():
        assert part is not None
        saved, state = load_file(tmp_path / name), part.state_dict()
        assert {key: (tensor.dtype, tensor.shape) for key, tensor in saved.items()} == {
            key: (tensor.dtype, tensor.shape) for key, tensor in state.items()
        }
        assert all(torch.equal(tensor, saved[key]) for key, tensor in state.items())
    assert not list(tmp_path.glob(".*.part"))
    loaded = STLM.from_pretrained(tmp_path, device="cpu")
    one, other = loaded.predict(texture(70, 90)), toy_memory_model.predict(texture(70, 90))
    assert one.to_dict() == other.to_dict() and (one.anomaly_map == other.anomaly_map).all()


def test_saving_twice_gives_the_same_bytes(tiny_model: STLM, saved_model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        tiny_model.save_pretrained(tmp_path / "a" / "b", dtype=torch.float16)
        for path in saved_model.iterdir():
            assert (tmp_path / "a" / "b" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_file_of_weights_says_its_format_and_no_more(saved_model: Path) -> None:
    with safe_open(saved_model / WEIGHTS_NAME, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # anything else would change its SHA-256 with the version


@pytest.mark.usefixtures("toy_streams")
def test_another_judging_rewrites_one_small_file(
    toy_memory_model: STLM, saved_memory_toy: Path, tmp_path: Path
) -> None:
    judging_by(toy_memory_model, score_top_k=1).save_pretrained(tmp_path, dtype=torch.float16)
    changed = [p.name for p in saved_memory_toy.iterdir() if p.read_bytes() != (tmp_path / p.name).read_bytes()]
    assert changed == [CALIBRATION_NAME]


@pytest.mark.usefixtures("toy_streams")
def test_a_memory_that_judges_alone_is_saved_without_a_network(
    toy_memory_model: STLM, saved_memory_toy: Path, saved_memory_alone: Path
) -> None:
    names = {CONFIG_NAME, CALIBRATION_NAME, MEMORY_NAME, FAMILIARITY_NAME}
    assert {path.name for path in saved_memory_alone.iterdir()} == names
    for name in (MEMORY_NAME, FAMILIARITY_NAME):
        assert (saved_memory_alone / name).read_bytes() == (saved_memory_toy / name).read_bytes()
    loaded = STLM.from_pretrained(saved_memory_alone, device="cpu")
    assert loaded.network is None and loaded.available == ("memory",)
    assert loaded.config == toy_memory_model.config.replace(streams=False)
    whole = judging_by(toy_memory_model, judge_by="memory", scales=(), calibration=None)
    assert loaded.predict(texture(70, 90)).score == pytest.approx(whole.predict(texture(70, 90)).score, abs=0.02)


@pytest.mark.usefixtures("toy_streams")
def test_a_model_of_an_older_format_is_refused_in_a_sentence(saved_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "old")
    config = json.loads((folder / CONFIG_NAME).read_text()) | {"format_version": 1}
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"format 1 by an older stlm_hub.*Make it again"):
        STLM.from_pretrained(folder, device="cpu")


@pytest.mark.usefixtures("toy_streams")
def test_saving_leaves_the_card_that_is_there(toy_model: STLM, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    toy_model.save_pretrained(str(tmp_path), dtype=torch.float16)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.usefixtures("toy_streams")
def test_what_cannot_be_saved_is_refused(toy_model: STLM, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="float16"):
        toy_model.save_pretrained(tmp_path, dtype=torch.float64)
    broken = STLM(toy_model.config)
    assert broken.network is not None
    broken.network.decoder.scale.data[0] = 1e6  # infinite in float16
    with pytest.raises(WeightsError, match=r"decoder\.scale.*float16.*float32"):
        broken.save_pretrained(tmp_path, dtype=torch.float16)
    assert not (tmp_path / WEIGHTS_NAME).exists()


@pytest.mark.usefixtures("toy_streams")
def test_the_default_model_is_the_papers_and_loading_leaves_the_seed_alone(saved_memory_toy: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        model = STLM()
        assert (model.config, model.judging, model.name) == (STLMConfig(), Judging(), "stlm")
        assert model.input_size == (1024, 1024) and model.calibration is None
        torch.manual_seed(5)
        wanted = torch.rand(3)
        torch.manual_seed(5)
        STLM.from_pretrained(saved_memory_toy)
        assert torch.equal(torch.rand(3), wanted)


def test_an_unusable_device_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for device in ("abacus", "cuda:99"):
        with pytest.raises(ConfigError, match=f'"{device}" cannot be used'):
            STLM.from_pretrained(tmp_path / "nothing", device=device)


@pytest.mark.usefixtures("toy_streams")
def test_parts_of_two_models_do_not_go_together(saved_toy: Path, saved_memory_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "mixed")
    shutil.copy(saved_memory_toy / CALIBRATION_NAME, folder)
    with pytest.raises(ConfigError, match="no memory of normal patches"):
        STLM.from_pretrained(folder, device="cpu")
    shutil.copy(saved_memory_toy / CONFIG_NAME, folder)
    with pytest.raises(WeightsError, match=r"model\.safetensors does not fit its config\.json"):
        STLM.from_pretrained(folder, device="cpu")


@pytest.mark.usefixtures("toy_streams")
def test_a_folder_whose_small_files_are_missing_is_named(saved_toy: Path, tmp_path: Path) -> None:
    for name in (CONFIG_NAME, CALIBRATION_NAME):
        folder = shutil.copytree(saved_toy, tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(ConfigError, match=rf"{name} is missing"):
            STLM.from_pretrained(folder, device="cpu")
