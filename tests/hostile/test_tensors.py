"""Files of tensors that are none, are of another model, or would make a model say nothing with certainty."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from drawn import texture
from hostile.mutations import refused, sentence
from safetensors.torch import load_file, save_file

from stlm_hub.errors import ConfigError, WeightsError
from stlm_hub.models.stlm.config import STLMConfig
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")

MEMORY, FAMILIARITY, REGION = "patch_memory.safetensors", "familiarity.safetensors", "region.safetensors"
TENSORS = ("model.safetensors", MEMORY, FAMILIARITY, REGION)


@pytest.fixture(scope="module")
def with_region(toy_streams: None, toy_memory_model: STLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every file that a model can have."""
    model = STLM(toy_memory_model.config.replace(region=True), toy_memory_model.judging)
    model.load_state_dict(toy_memory_model.state_dict(), strict=False)
    folder = tmp_path_factory.mktemp("region") / "model"
    model.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture
def folder(with_region: Path, tmp_path: Path) -> Path:
    return shutil.copytree(with_region, tmp_path / "model")


def why(folder: Path) -> str:
    with pytest.raises(WeightsError) as error:
        STLM.from_pretrained(folder, device="cpu")
    return sentence(error.value)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_in_every_file(name: str, value: float, folder: Path) -> None:
    tensors = load_file(folder / name)
    first = next((key for key, tensor in tensors.items() if tensor.is_floating_point()), None)
    if first is None:  # a region holds none; what takes their place is refused
        save_file({key: torch.full(tensor.shape, value) for key, tensor in tensors.items()}, folder / name)
        assert "save it anew" in why(folder)
        return
    tensors[first] = tensors[first].clone()
    tensors[first].view(-1)[-1] = value
    save_file(tensors, folder / name)
    assert f"NaN or infinite values in {first}" in why(folder)


@pytest.mark.parametrize("name", TENSORS)
def test_a_pickle_is_refused_under_every_name_and_never_run(name: str, folder: Path, tmp_path: Path) -> None:
    attack = b"c__builtin__\nopen\n(V" + str(tmp_path / "ran").encode() + b"\nVw\ntR."
    torch.save(load_file(folder / name), tmp_path / "zip")
    for data in (b"\x80\x02" + attack, b"\x80\x04" + attack, attack, (tmp_path / "zip").read_bytes()):
        (folder / name).write_bytes(data)
        assert "is a pickle" in why(folder) or "not a whole safetensors file" in why(folder)
    (folder / name).write_bytes(pickle.dumps({"a": 1}, protocol=0))
    assert "not a whole safetensors file" in why(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", TENSORS)
def test_files_of_another_model_are_refused(name: str, folder: Path) -> None:
    tensors = load_file(folder / name)
    key, tensor = max(tensors.items(), key=lambda item: item[1].numel())
    for other in (tensor[:-1], tensor.transpose(0, -1), tensor.reshape(-1), tensor[None], torch.zeros(0)):
        if other.shape != tensor.shape:
            save_file(tensors | {key: other.contiguous()}, folder / name)
            assert f"{key} is " in why(folder)
    other_name = next(other for other in TENSORS if other != name)
    shutil.copyfile(folder / other_name, folder / name)
    assert "does not fit its config.json" in why(folder) or "more bytes" in why(folder)


def test_tensors_that_are_swapped_with_those_of_the_same_shape_do_not_pass_for_a_pinned_model(folder: Path) -> None:
    """By their names they fit, so nothing but their SHA-256 can tell; an alias has that, see test_hub.py."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    a, b = (next(n for n in names if part in n and n.endswith("stage1.weight")) for part in ("plain", "denoising"))
    save_file(tensors | {a: tensors[b], b: tensors[a]}, folder / "model.safetensors")
    assert not refused(lambda: STLM.from_pretrained(folder, device="cpu").predict(texture(64, 64)))


def test_every_beginning_and_every_flipped_bit_of_a_header_is_a_sentence(folder: Path) -> None:
    path = folder / FAMILIARITY
    data = path.read_bytes()
    size = 8 + struct.unpack("<Q", data[:8])[0]
    loaded = 0
    for at in range(0, size, 3):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        loaded += not refused(lambda: STLM.from_pretrained(folder, device="cpu"))
    assert loaded < size / 12  # spaces, and the name of the format, may be others
    for end in range(0, len(data), 512):
        path.write_bytes(data[:end])
        assert refused(lambda: STLM.from_pretrained(folder, device="cpu"))


def test_a_name_that_occurs_twice_in_a_header_is_refused(folder: Path) -> None:
    path = folder / FAMILIARITY
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size].rstrip()
    entry = b'"layout.rest":{"dtype":"F32","shape":[7],"data_offsets":[0,28]},'
    path.write_bytes(struct.pack("<Q", len(header) + len(entry)) + b"{" + entry + header[1:] + data[8 + size :])
    assert "a name occurs twice" in why(folder)


@pytest.mark.parametrize("value", [0, 2, 255])
def test_a_region_in_which_nothing_counts_or_that_is_no_mask_is_refused(value: int, folder: Path) -> None:
    save_file({"inside": torch.full((64, 64), value, dtype=torch.uint8)}, folder / REGION)
    assert "has no part that counts" in why(folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (FAMILIARITY, "content.rest", 0.0),
        (FAMILIARITY, "content.mean", 3e38),
        (FAMILIARITY, "layout.variances", -1e30),
        (MEMORY, "entries", 6e4),
        (MEMORY, "mean", 6e4),
    ],
)
def test_values_that_no_training_gives_never_let_a_photograph_pass(
    name: str, key: str, value: float, folder: Path
) -> None:
    tensors = load_file(folder / name)
    save_file(tensors | {key: torch.full_like(tensors[key], value)}, folder / name)
    try:
        prediction = STLM.from_pretrained(folder, device="cpu").predict(texture(64, 64))
    except WeightsError as error:
        assert "not finite" in sentence(error) or "below 0" in sentence(error)
    else:
        assert prediction.verdict in ("reject", "unfamiliar")


def test_a_frame_that_no_photograph_has_is_refused_before_it_is_allocated(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= {"input_size": [2048, 2048], "tiles": [16, 16]}  # a gigabyte of region
    with pytest.raises(ConfigError, match="more than any photograph has"):
        STLMConfig.from_dict(config)


def test_nothing_is_allocated_for_a_config_whose_weights_do_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= {"aggregation_channels": 512}
    config["patch_memory"] |= {"entries": 65536}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(STLM, "__init__", lambda *_, **__: pytest.fail("the network was made"))
    assert "does not fit its config.json" in why(folder)
