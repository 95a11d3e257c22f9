"""Saving, resolving names and reading weights, without a Hub. See test_hub_end_to_end.py for the rest."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stlm_hub.errors import ConfigError, HubError, WeightsError
from stlm_hub.model_folder import hub, zoo, zoo_files
from stlm_hub.model_folder.hub import companion_file, resolve
from stlm_hub.model_folder.weights_file import read_weights
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.stlm import STLM

EXPECTED = {"conv.weight": torch.zeros(4, 3), "norm.count": torch.tensor(0)}


def weights(**changes: Tensor) -> dict[str, Tensor]:
    """Weights that fit EXPECTED, with some changed; the names of keyword arguments have no dots."""
    values = {"conv_weight": torch.linspace(-1, 1, 12).view(4, 3), "norm_count": torch.tensor(7), **changes}
    return {name.replace("_", ".", 1): value for name, value in values.items()}


@pytest.fixture
def own_zoo(saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.ZooEntry:
    """A zoo of one model, "test-bottle", without a checkout around it."""
    path = tmp_path / "zoo.json"
    path.write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", path)
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path / "no checkout")
    for name in ("STLM_ZOO_DIR", "STLM_HUB_ORG"):
        monkeypatch.delenv(name, raising=False)
    return zoo_files.register(saved_model, "test-bottle", "someone/stlm-test-bottle", "apache-2.0")


def other_weights(folder: Path) -> None:
    """Changes one bit of a saved model; its size stays."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


# Saving


def test_config_json_is_the_config_and_the_model_comes_back(tiny_model: STLM, saved_model: Path) -> None:
    assert json.loads((saved_model / "config.json").read_text()) == tiny_model.config.to_dict()
    loaded = STLM.from_pretrained(saved_model, device="cpu")
    assert loaded.config == tiny_model.config
    assert not any(module.training for module in loaded.modules())
    state = tiny_model.state_dict()
    for name, tensor in loaded.state_dict().items():
        half = state[name].half().float() if state[name].is_floating_point() else state[name]
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, half), name


def test_weights_are_kept_exactly_without_a_dtype(tiny_model: STLM, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in saved.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in tiny_model.state_dict().items()
    }
    assert all(torch.equal(tensor, saved[name]) for name, tensor in tiny_model.state_dict().items())
    assert not list(tmp_path.glob(".*.part"))


def test_saving_twice_gives_the_same_bytes(tiny_model: STLM, saved_model: Path, tmp_path: Path) -> None:
    for _ in range(3):  # safetensors itself shuffles the metadata
        tiny_model.save_pretrained(tmp_path, dtype=torch.float16)
        assert (tmp_path / "model.safetensors").read_bytes() == (saved_model / "model.safetensors").read_bytes()


def test_weights_say_what_they_are(saved_model: Path) -> None:
    with safe_open(saved_model / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["architecture"] == "stlm" and metadata["category"] == "bottle"
    assert len(metadata["config_sha256"]) == 64 and metadata["stlm_hub_version"]


def test_a_card_is_written_where_there_is_none(tiny_model: STLM, saved_model: Path, tmp_path: Path) -> None:
    card = ModelCard.load(saved_model / "README.md")
    assert card.data.library_name == "stlm_hub" and card.data.pipeline_tag == "image-segmentation"
    assert "bottle" in card.text and "drawn by the tests" in card.text
    (tmp_path / "README.md").write_text("mine")
    tiny_model.save_pretrained(tmp_path, dtype=torch.float16)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_what_cannot_be_saved_is_refused(tiny_model: STLM, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="float16"):
        tiny_model.save_pretrained(tmp_path, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"model\.config"):
        tiny_model.save_pretrained(tmp_path, config=STLMConfig())
    with torch.random.fork_rng(devices=[]):
        broken = STLM(tiny_model.config)
    broken.decoder.iou_token.weight.data[0, 0] = 1e6  # infinite in float16
    with pytest.raises(WeightsError, match=r"iou_token.*float16.*float32"):
        broken.save_pretrained(tmp_path, dtype=torch.float16)
    assert not (tmp_path / "model.safetensors").exists()


def test_default_config_is_the_papers_and_loading_leaves_the_seed_alone(saved_model: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        assert STLM().config == STLMConfig()
        torch.manual_seed(5)
        wanted = torch.rand(3)
        torch.manual_seed(5)
        STLM.from_pretrained(saved_model)
        assert torch.equal(torch.rand(3), wanted)


def test_unusable_device_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for device in ("abacus", "cuda:99"):
        with pytest.raises(ConfigError, match=f'"{device}" cannot be used'):
            STLM.from_pretrained(tmp_path / "nothing", device=device)


# Reading weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_smaller_floats_are_cast_up_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = weights(conv_weight=weights()["conv.weight"].to(dtype))
    save_file(saved, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors", EXPECTED)
    assert read.keys() == EXPECTED.keys() and read["conv.weight"].dtype == torch.float32
    assert torch.equal(read["conv.weight"], saved["conv.weight"].float()) and read["norm.count"] == 7


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conv_more": torch.zeros(1)}, r"1 are unknown \('conv.more'\)"),
        ({"conv_weight": torch.zeros(3, 4)}, r"conv.weight is \(3, 4\) and must be \(4, 3\)"),
        ({"conv_weight": torch.zeros(4, 3, dtype=torch.float64)}, "conv.weight as F64"),
        ({"conv_weight": torch.zeros(4, 3, dtype=torch.int64)}, "conv.weight as I64"),
        ({"norm_count": torch.tensor(1.0)}, "norm.count as F32"),
        ({"conv_weight": torch.full((4, 3), torch.nan)}, "NaN or infinite values in conv.weight"),
        ({"conv_weight": torch.full((4, 3), torch.inf, dtype=torch.float16)}, "NaN or infinite values in conv.weight"),
    ],
)
def test_weights_of_another_network_are_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    save_file(weights(**changes), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=sentence):
        read_weights(tmp_path / "w.safetensors", EXPECTED)


def test_missing_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensors are missing \(norm.count\)"):
        read_weights(tmp_path / "w.safetensors", EXPECTED)


def test_files_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(weights(), path)
    whole = path.read_bytes()
    contents = {
        "not a whole safetensors": [b"", whole[:-1], whole[:20], whole + b"\0", b"\xff" * 200],
        "pickle": [pickle.dumps(weights(), protocol=protocol) for protocol in (2, 3, 4, 5)],
        "git lfs pull": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"],
        "more than its network can take": [whole + bytes(2**20)],
    }
    for sentence, files in contents.items():
        for content in files:
            path.write_bytes(content)
            with pytest.raises(WeightsError, match=sentence):
                read_weights(path, EXPECTED)
    torch.save(weights(), path)
    assert zipfile.is_zipfile(path)
    with pytest.raises(WeightsError, match="pickle"):
        read_weights(path, EXPECTED)
    path.unlink()
    with pytest.raises(WeightsError, match="missing"):
        read_weights(path, EXPECTED)


def test_sha256_is_checked(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"altered or corrupted.*force_download=True"):
        read_weights(tmp_path / "w.safetensors", EXPECTED, sha256="0" * 64)


# Names


def test_folder_without_weights_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        resolve(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match=r"pickle \(pytorch_model\.bin\)"):
        STLM.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("name", ["", "./nowhere", "a/b/c", "/nowhere/at/all", "org/", "~/nowhere", Path("org/repo")])
def test_names_that_lead_nowhere(name: str | Path, own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"There is no folder|Give the name of a model"):
        resolve(name)


def test_revisions_must_make_sense(saved_model: Path, own_zoo: zoo.ZooEntry) -> None:
    with pytest.raises(HubError, match="two revisions"):
        resolve("org/repo@v1", revision="v2")
    with pytest.raises(HubError, match="Give the name"):
        resolve("org/repo@")
    with pytest.raises(HubError, match="leave the revision out"):
        resolve(saved_model, revision="v1")
    with pytest.raises(HubError, match="leave the revision out"):
        resolve(f"{saved_model}@v1")


def test_companion_of_a_folder_lies_beside_the_config(saved_model: Path, own_zoo: zoo.ZooEntry, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_model, tmp_path / "model")
    local = resolve(folder)
    assert companion_file(local, "results.json") is None
    (folder / "results.json").mkdir()
    assert companion_file(local, "results.json") is None
    (folder / "results.json").rmdir()
    (folder / "results.json").write_text("{}")
    assert companion_file(local, "results.json") == folder / "results.json"


@pytest.mark.parametrize("size", [1001, None])
def test_a_companion_that_is_too_large_is_not_downloaded(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    local = hub.LocalModel(tmp_path, "org/repo", "a" * 40)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: SimpleNamespace(size=size))
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: pytest.fail("it was downloaded"))
    assert companion_file(local, "README.md", max_bytes=1000) is None
    (tmp_path / "README.md").write_bytes(bytes(1001))
    assert companion_file(local, "README.md", max_bytes=1000) is None
    assert companion_file(local, "README.md", max_bytes=1001) == tmp_path / "README.md"


def test_folder_with_an_at_sign_is_a_folder(saved_model: Path, own_zoo: zoo.ZooEntry, tmp_path: Path) -> None:
    (tmp_path / "model@home").symlink_to(saved_model)
    assert resolve(str(tmp_path / "model@home")).weights_path == tmp_path / "model@home" / "model.safetensors"


def test_unknown_alias_lists_close_matches(own_zoo: zoo.ZooEntry) -> None:
    with pytest.raises(HubError, match=r'no model "test-botle"\. Did you mean test-bottle\?.*"org/repo"'):
        resolve("test-botle")
    with pytest.raises(HubError, match=r'no model "zzz"\. The zoo has: test-bottle\.'):
        resolve("zzz")


def test_own_zoo_folder_comes_first_and_is_checked(
    own_zoo: zoo.ZooEntry, saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path / "models"))
    copy = shutil.copytree(saved_model, tmp_path / "models" / "test-bottle")
    assert resolve("test-bottle").config_path == copy / "config.json"
    assert STLM.from_pretrained("test-bottle").config.category == "bottle"

    changed = json.loads((copy / "config.json").read_text()) | {"score_top_k": 1}
    (copy / "config.json").write_text(json.dumps(changed))
    with pytest.raises(WeightsError, match="not saved together"):
        STLM.from_pretrained("test-bottle")
    assert STLM.from_pretrained(copy).config.score_top_k == 1  # a folder of one's own may be edited

    other_weights(copy)
    with pytest.raises(WeightsError, match="altered or corrupted"):
        STLM.from_pretrained("test-bottle")
    copy.rename(tmp_path / "models" / "my-part")
    assert STLM.from_pretrained("my-part").config.score_top_k == 1  # not in zoo.json: accepted as it is


def test_checkout_is_used_only_for_the_weights_of_the_zoo(
    own_zoo: zoo.ZooEntry, saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path)
    copy = shutil.copytree(saved_model, tmp_path / "model_cards" / "test-bottle")
    with pytest.raises(HubError, match="not in the cache"):  # without pyproject.toml it is not a checkout
        resolve("test-bottle", local_files_only=True)
    (tmp_path / "pyproject.toml").touch()
    assert resolve("test-bottle", local_files_only=True).weights_path == copy / "model.safetensors"
    other_weights(copy)
    with pytest.raises(HubError, match="not in the cache"):
        resolve("test-bottle", local_files_only=True)


def test_another_organisation_can_serve_the_aliases(own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="someone/stlm-test-bottle is not in the cache"):
        resolve("test-bottle", local_files_only=True)
    monkeypatch.setenv("STLM_HUB_ORG", "factory")
    with pytest.raises(HubError, match="factory/stlm-test-bottle is not in the cache"):
        resolve("test-bottle", local_files_only=True)


def test_offline_mode_has_its_own_sentence(own_zoo: zoo.ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        resolve("org/not-downloaded-before")
    with pytest.raises(HubError, match='give it as "org/repo"'):
        resolve("org/a--b")
