"""CLIP with weights, through open_clip: a Hub id, a folder or a file. Only safetensors is read, never a pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ..errors import ConfigError, HubError, WeightsError
from ..validate import check_fields, check_flag, check_integer, check_number, expanded, read_json

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer

HUB_PREFIX = "hf-hub:"
DEFAULT_REPO = "timm/vit_large_patch14_clip_336.openai"
"""OpenAI's ViT-L/14 at 336 px, where open_clip itself gets it from."""
DEFAULT_ARCHITECTURE = "ViT-L-14-336-quickgelu"
"""open_clip's name of it: of the default weights, and of a file without `CONFIG_FILE` beside it."""
WEIGHTS_FILE = "open_clip_model.safetensors"
CONFIG_FILE = "open_clip_config.json"
VARIABLE = "STLM_CLIP_WEIGHTS"
"""Environment variable that names weights in the place of the default ones."""
PATCHES = 37
"""Patches along a side of the input: 518 px for patches of 14 px, as APRIL-GAN and AnomalyCLIP take."""
VOCABULARY = 49408
"""Tokens of CLIP's own tokenizer, which open_clip carries."""
HUB_TIMEOUT = 5.0  # seconds to wait for an answer of the Hub

INSTALL = 'pip install "stlm_hub[zero-shot]"'
HOW_TO_GET = (
    f"get {WEIGHTS_FILE} (1.7 GB) from https://huggingface.co/{DEFAULT_REPO} on any computer and name the file with "
    f"--clip or {VARIABLE}"
)


Triple: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP model, ready for photographs and texts.

    Args:
        name: of its weights.
        model: open_clip's, with a plain vision transformer; in eval mode.
        tokenizer: texts -> NxL int64.
        side: pixels of its square input.
        mean, std: of its input, for RGB in [0, 1].
    """

    name: str
    model: CLIP
    tokenizer: SimpleTokenizer
    side: int
    mean: Triple
    std: Triple

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        place: torch.device = self.model.logit_scale.device
        return place


def load_clip(weights: str | os.PathLike[str] | None = None, *, patches: int = PATCHES) -> Clip:
    """CLIP on the CPU.

    Args:
        weights: "hf-hub:org/repo" or "hf-hub:org/repo@revision" of a repository in open_clip's form; a folder with
            `CONFIG_FILE` and `WEIGHTS_FILE`; or a safetensors file, with `CONFIG_FILE` beside it where it is not of
            `DEFAULT_ARCHITECTURE`. None: what `VARIABLE` names, else `DEFAULT_REPO`.
        patches: along a side of the input; position embeddings are interpolated where it has others.

    Raises:
        ConfigError: open_clip is not installed, or the configuration is not of a plain vision transformer.
        HubError: the weights cannot be downloaded; the message says how to get them.
        WeightsError: the file is missing, no safetensors, or does not fit its configuration.
    """
    try:
        import open_clip
        from open_clip.model import resize_pos_embed
    except ImportError as error:
        raise ConfigError(f"Zero-shot needs {error.name}: {INSTALL}") from None
    named = os.fspath(weights or os.environ.get(VARIABLE) or HUB_PREFIX + DEFAULT_REPO)
    config_path, path = _find(named)
    if config_path is None:
        config = {"model_cfg": open_clip.get_model_config(DEFAULT_ARCHITECTURE), "preprocess_cfg": {}}
    else:
        config = read_json(config_path)
    settings, mean, std = _checked(config)
    with torch.device("meta"):
        expected = _build(settings).state_dict()
    state = _read(path, expected)
    vision = settings["vision_cfg"]
    side = patches * vision["patch_size"]
    with torch.device("meta"):  # initial values would take seconds, and as much memory again as the weights
        model = _build({**settings, "vision_cfg": {**vision, "image_size": side}})
    resize_pos_embed(state, model)
    model.load_state_dict(state, strict=True, assign=True)
    length = settings["text_cfg"]["context_length"]
    model.attn_mask = torch.full((length, length), float("-inf")).triu(1)  # the only tensor that no file holds
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=length)
    name = Path(named.partition("@")[0]).name.removesuffix(".safetensors")
    return Clip(name, model.eval().requires_grad_(False), tokenizer, side, mean, std)


def _build(settings: Mapping[str, Any]) -> CLIP:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    return CLIP(
        embed_dim=settings["embed_dim"],
        vision_cfg=CLIPVisionCfg(**settings["vision_cfg"]),
        text_cfg=CLIPTextCfg(**settings["text_cfg"]),
        quick_gelu=settings.get("quick_gelu", False),
    )


# ---------------------------------------------------------------- where the files are


def _find(named: str) -> tuple[Path | None, Path]:
    """Configuration (None: `DEFAULT_ARCHITECTURE`) and weights file."""
    if named.startswith(HUB_PREFIX):
        repo, _, revision = named.removeprefix(HUB_PREFIX).partition("@")
        # The default's own file says nothing of OpenAI's activation, which open_clip's built-in one does.
        if repo == DEFAULT_REPO:
            return None, _download(repo, WEIGHTS_FILE, revision or None)
        config = _download(repo, CONFIG_FILE, revision or None)
        return config, _download(repo, WEIGHTS_FILE, config.parent.name)  # of the same commit, which names the folder
    path = expanded(named)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if (path / WEIGHTS_FILE) in files:
            files = [path / WEIGHTS_FILE]
        if len(files) != 1:
            raise WeightsError(f"{path} holds {len(files)} safetensors files and no {WEIGHTS_FILE}; {HOW_TO_GET}.")
        path = files[0]
    elif not path.is_file():
        raise WeightsError(
            f"{named} is no file or folder of CLIP's weights (a repository of the Hub is named {HUB_PREFIX}org/repo); "
            f"{HOW_TO_GET}."
        )
    config = path.with_name(CONFIG_FILE)
    return config if config.is_file() else None, path


def _download(repo: str, name: str, revision: str | None) -> Path:
    """A file of a repository, from the cache where it is there."""
    import huggingface_hub

    try:
        cached = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        # A single request, without the client's retries: where the Hub is blocked, it fails within seconds.
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT)
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # from the client, its HTTP library or the file system
        reason = str(error).strip().partition("\n")[0][:150]
        raise HubError(
            f"CLIP's weights are not here, and {name} of {repo} cannot be downloaded ({reason}); {HOW_TO_GET}."
        ) from None


# ---------------------------------------------------------------- what is in them


def _checked(config: Any) -> tuple[dict[str, Any], Triple, Triple]:
    """Settings of the model, mean and standard deviation of its input, out of `CONFIG_FILE`."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    whole = check_fields(CONFIG_FILE, config, ["model_cfg", "preprocess_cfg"], required=["model_cfg"])
    known = ["embed_dim", "quick_gelu", "vision_cfg", "text_cfg"]
    settings = check_fields("model_cfg", whole["model_cfg"], known, required=["embed_dim", "vision_cfg", "text_cfg"])
    check_integer("embed_dim", settings["embed_dim"], 1, 8192)
    check_flag("quick_gelu", settings.get("quick_gelu", False))
    _check_part("vision_cfg", settings["vision_cfg"], _VISION)
    _check_part("text_cfg", settings["text_cfg"], _TEXT)
    for part in ("vision_cfg", "text_cfg"):
        if settings[part]["width"] % _heads(settings[part]):
            raise ConfigError(f"{part}: its width must be a multiple of its heads; get the file anew.")
    preprocessing = whole.get("preprocess_cfg") or {}
    statistics: list[Triple] = []
    for name, default in (("mean", OPENAI_DATASET_MEAN), ("std", OPENAI_DATASET_STD)):
        values = preprocessing.get(name, default) if isinstance(preprocessing, dict) else None
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise ConfigError(f"{name} in {CONFIG_FILE} must be three numbers; get the file anew.")
        for value in values:
            check_number(name, value, 0.01 if name == "std" else 0.0, 1.0)
        statistics.append((float(values[0]), float(values[1]), float(values[2])))
    return dict(settings), statistics[0], statistics[1]


_VISION = {"image_size": 1024, "layers": 128, "width": 8192, "patch_size": 64, "head_width": 1024}
_TEXT = {"context_length": 1024, "vocab_size": VOCABULARY, "width": 8192, "heads": 128, "layers": 128}
"""Whole numbers that describe a plain transformer, and the highest value of each."""


def _check_part(name: str, value: Any, highest: Mapping[str, int]) -> None:
    """Refuses towers of other kinds: convolutional ones, timm's, and text encoders that would be downloaded."""
    if not isinstance(value, dict) or value.keys() - {*highest, "mlp_ratio"}:
        raise ConfigError(
            f"{name} in {CONFIG_FILE} is not of a plain transformer, whose patches alone can be compared with text; "
            f"use weights of open_clip's ViT models, e.g. {HUB_PREFIX}{DEFAULT_REPO}."
        )
    check_fields(name, value, [*highest, "mlp_ratio"], required=highest.keys() - {"head_width"})
    for field in value.keys() & highest.keys():
        lowest = VOCABULARY if field == "vocab_size" else 2 if field == "layers" else 1
        check_integer(f"{name} {field}", value[field], lowest, highest[field])
    check_number(f"{name} mlp_ratio", value.get("mlp_ratio", 4.0), 0.1, 16.0)


def _heads(part: Mapping[str, Any]) -> int:
    return int(part.get("heads") or max(1, part["width"] // part.get("head_width", 64)))


def _read(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a safetensors file in float32, after names and shapes were compared; nothing is loaded before that."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            wrong = [name for name in sorted(expected.keys() | names) if name not in names or name not in expected]
            wrong = wrong or [n for n in names if tuple(file.get_slice(n).get_shape()) != tuple(expected[n].shape)]
            if wrong:
                raise WeightsError(
                    f"{path} does not fit its architecture ({wrong[0][:80]}); keep {CONFIG_FILE} of the same "
                    f"repository beside it, or {HOW_TO_GET}."
                )
            state = {name: file.get_tensor(name).float() for name in expected}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({str(error)[:100]}), and pickles (.bin, .pt) are never read; "
            f"{HOW_TO_GET}."
        ) from None
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} holds NaN or infinite values in {name}; {HOW_TO_GET}.")
    return state
