"""CLIP with random weights and four thin layers, in the files that open_clip publishes its models in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file

SETTINGS: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def small_clip(seed: int = 0) -> CLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(32, CLIPVisionCfg(**SETTINGS["vision_cfg"]), CLIPTextCfg(**SETTINGS["text_cfg"])).eval()


def write_clip(folder: Path, model: CLIP | None = None, **changes: Any) -> Path:
    """Writes weights and configuration; `changes` are of "model_cfg" or, by `part__field`, of a part of it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = (model or small_clip()).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
    settings = copy.deepcopy(SETTINGS)
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            settings[part][field] = value
        else:
            settings[part] = value
    config = {"model_cfg": settings, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
