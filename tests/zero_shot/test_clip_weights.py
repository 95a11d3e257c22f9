"""CLIP's files: a folder, a file, the Hub; and what is refused."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from small_clip import SETTINGS, small_clip, write_clip

from stlm_hub.errors import ConfigError, HubError, WeightsError
from stlm_hub.zero_shot.clip_weights import CONFIG_FILE, VARIABLE, WEIGHTS_FILE, _checked, load_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


def test_a_folder_a_file_and_the_environment_name_weights(
    clip_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / WEIGHTS_FILE).rename(folder / "other.safetensors")  # the only one counts
    monkeypatch.setenv(VARIABLE, str(folder))
    before = torch.random.get_rng_state()
    found = [load_clip(path, patches=4) for path in (clip_folder, clip_folder / WEIGHTS_FILE, folder, None)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [clip.name for clip in found] == ["small", "open_clip_model", "clip", "clip"]
    expected = small_clip().state_dict()
    for clip in found:
        assert (clip.side, clip.mean, clip.device.type) == (32, (0.5, 0.5, 0.5), "cpu") and not clip.model.training
        assert clip.std == (0.26862954, 0.26130258, 0.27577711)  # OpenAI's, where the file says nothing
        state = clip.model.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_texts_are_read_as_open_clip_reads_them(clip_folder: Path) -> None:
    clip = load_clip(clip_folder, patches=4)
    assert torch.equal(clip.model.attn_mask, small_clip().attn_mask)  # which no file holds
    tokens = clip.tokenizer(["a photo of a bottle", "a damaged screw"])
    with torch.inference_mode():
        assert torch.allclose(clip.model.encode_text(tokens), small_clip().encode_text(tokens), atol=1e-6)


def test_another_grid_interpolates_positions(clip_folder: Path) -> None:
    small, large = (load_clip(clip_folder, patches=n).model for n in (4, 8))
    at_4, at_8 = (model.visual.positional_embedding for model in (small, large))
    assert at_8.shape == (65, 64) and torch.equal(at_8[0], at_4[0])
    grids = [p[1:].T.reshape(64, n, n) for p, n in ((at_4, 4), (at_8, 8))]
    assert torch.allclose(grids[1].mean((1, 2)), grids[0].mean((1, 2)), atol=0.05)


def test_half_precision_is_read_as_float32(folder: Path) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    save_file({name: tensor.half() for name, tensor in state.items()}, folder / WEIGHTS_FILE)
    assert load_clip(folder, patches=4).model.visual.conv1.weight.dtype == torch.float32


def test_pickles_and_broken_files_are_refused(folder: Path) -> None:
    path, whole = folder / WEIGHTS_FILE, (folder / WEIGHTS_FILE).read_bytes()
    torch.save(small_clip().state_dict(), path)
    pickled = path.read_bytes()
    for content in (pickled, whole[:-100], whole[:4], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"not a whole safetensors file .* never read; get open_clip_model"):
            load_clip(folder)
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"0 safetensors files and no open_clip_model\.safetensors; get"):
        load_clip(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    more = state | {"more": torch.zeros(1)}
    fewer = {name: tensor for name, tensor in state.items() if name != "visual.proj"}
    other = state | {"visual.proj": torch.zeros(3, 3)}
    for wrong, name in ((more, "more"), (fewer, "visual.proj"), (other, "visual.proj")):
        save_file(wrong, folder / WEIGHTS_FILE)
        with pytest.raises(WeightsError, match=rf"does not fit its architecture \({name}\)"):
            load_clip(folder)
    save_file(state | {"visual.proj": torch.full((64, 32), torch.nan)}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match=r"NaN or infinite values in visual\.proj"):
        load_clip(folder)


def test_a_file_alone_is_taken_for_the_default_architecture(folder: Path) -> None:
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(WeightsError, match=f"does not fit its architecture .* keep {CONFIG_FILE}"):
        load_clip(folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("vision_cfg", {"timm_model_name": "resnet50"}, "vision_cfg .* not of a plain transformer"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "text_cfg .* not of a plain transformer"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "vision_cfg layers must be a whole number"),
        ("vision_cfg", {"layers": 1}, "layers must be a whole number from 2"),
        ("vision_cfg", {"width": 10**9}, "width must be a whole number from 1 to 8192"),
        ("vision_cfg", {"width": 80}, "width must be a multiple of its heads"),
        ("vision_cfg", {"patch_size": 0}, "patch_size must be"),
        ("text_cfg", {"vocab_size": 100}, "vocab_size must be a whole number from 49408 to 49408"),
        ("text_cfg", {"heads": 0}, "heads must be"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(part: str, change: dict[str, Any], told: str) -> None:
    settings = copy.deepcopy(SETTINGS)
    settings[part].update(change)
    if part == "vision_cfg" and "width" in change:
        settings[part]["head_width"] = 24
    with pytest.raises(ConfigError, match=told):
        _checked({"model_cfg": settings})


@pytest.mark.parametrize("config", [None, [], {}, {"model_cfg": 3}, {"model_cfg": {"embed_dim": 8}}])
def test_a_configuration_that_is_none_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError):
        _checked(config)


@pytest.mark.parametrize("mean", [[0.5, 0.5], 3, ["a", "b", "c"], [9, 9, 9]])
def test_statistics_are_three_numbers(mean: Any) -> None:
    with pytest.raises(ConfigError, match="mean"):
        _checked({"model_cfg": SETTINGS, "preprocess_cfg": {"mean": mean}})


def test_where_weights_are_missing_a_sentence_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = r"; get open_clip_model\.safetensors .* from https://huggingface\.co/timm/.* --clip or STLM_CLIP_WEIGHTS\.$"
    with pytest.raises(WeightsError, match="is no file or folder of CLIP's weights .*" + how):
        load_clip(tmp_path / "none")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", _unreachable)
    with pytest.raises(HubError, match=r"CLIP's weights are not here, .* cannot be downloaded \(no route\)" + how):
        load_clip()
    with pytest.raises(HubError, match=r"open_clip_config\.json of org/clip cannot be downloaded"):
        load_clip("hf-hub:org/clip")


def _unreachable(*_: object, **__: object) -> None:
    raise ConnectionError("no route")


def test_without_open_clip_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"Zero-shot needs open_clip: pip install .stlm_hub\[zero-shot\]"):
        load_clip("anything")


def test_the_hub_gives_both_files_of_one_commit(hub: HubServer, clip_folder: Path, tmp_path: Path) -> None:
    """In a process of its own: the client reads HF_ENDPOINT when it starts. A pickle beside them is not touched."""
    files = {path.name: path.read_bytes() for path in clip_folder.iterdir()}
    commit = hub.put("org/clip", files | {"open_clip_pytorch_model.bin": b"\x80\x04."})
    program = (
        "import json\nfrom stlm_hub.zero_shot.clip_weights import load_clip\n"
        f"clip = load_clip('hf-hub:org/clip@{commit}', patches=4)\n"
        "print(json.dumps([clip.name, float(clip.model.visual.proj.sum())]))\n"
    )
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = float(small_clip().visual.proj.detach().sum())
    assert json.loads(done.stdout) == ["clip", pytest.approx(expected, abs=1e-4)]
    cached = {path.name for path in tmp_path.rglob("snapshots/*/*")}
    assert cached == {CONFIG_FILE, WEIGHTS_FILE}
