"""STLM, the class that people use: the network that can be loaded, asked, saved and published."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from . import __version__
from .errors import ConfigError, WeightsError
from .model_folder import hub
from .model_folder.weights_file import read_weights
from .models.stlm.config import STLMConfig
from .models.stlm.network import STLMNetwork

if TYPE_CHECKING:
    from .predict.images import ImageInput
    from .predict.predictor import Prediction

SAVED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

CARD = """---
{{ card_data }}
---

# STLM{{ " for " + category if category }}

An anomaly detection model of [STLM](https://arxiv.org/abs/2402.19145), trained on photographs of good parts
{{- " (" + dataset + ")" if dataset }}. It marks what looks different.

```python
from stlm_hub import STLM

model = STLM.from_pretrained("org/repo")  # or the folder of this file
prediction = model.predict("photo.jpg")
print(prediction.score, prediction.is_anomalous)
```
"""


class STLM(
    STLMNetwork,
    PyTorchModelHubMixin,
    library_name="stlm_hub",
    pipeline_tag="image-segmentation",
    tags=["anomaly-detection", "anomaly-segmentation", "industrial-inspection"],
    paper_url="https://arxiv.org/abs/2402.19145",
    model_card_template=CARD,
):
    """Two-stream lightweight anomaly detection (arXiv 2402.19145).

    Args:
        config: architecture, preprocessing, scoring and calibration; None is the paper's.

    Example:
        >>> model = STLM.from_pretrained("mvtec-bottle")
        >>> model.predict("photo.jpg").is_anomalous
    """

    def __init__(self, config: STLMConfig | None = None) -> None:
        super().__init__(STLMConfig() if config is None else config)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # its own options: config and weights are checked as one
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> STLM:
        """Loads a model, in eval mode.

        Args:
            name: alias of the zoo, `org/repo`, `org/repo@revision` or a folder. See `model_folder.hub.resolve`.
            revision: branch, tag or commit.
            device: where it runs; None is "cuda" where there is one, else "cpu".
            local_files_only: use folders and the cache only.
            token: access token of the Hub; None uses the one of `hf auth login`.

        Raises:
            HubError: there is no such model, or it cannot be downloaded.
            ConfigError: config.json is not valid, or the device cannot be used.
            WeightsError: the weights are missing, a pickle, altered, or do not fit config.json.
        """
        place = _usable_device(device)
        local = hub.resolve(name, revision=revision, token=token, local_files_only=local_files_only)
        config = STLMConfig.load(local.config_path)
        with torch.random.fork_rng(devices=[]):  # initial values are drawn and thrown away: leave the user's seed alone
            model = cls(config)
        weights = read_weights(local.weights_path, model.state_dict(), sha256=local.sha256)
        if local.alias is not None:
            check_saved_together(local.config_path, local.weights_path)
        model.load_state_dict(weights, strict=True)
        return model.eval().to(place)

    @overload
    def predict(self, image_or_list: ImageInput, *, threshold: float | None = None) -> Prediction: ...
    @overload
    def predict(
        self, image_or_list: list[ImageInput] | tuple[ImageInput, ...], *, threshold: float | None = None
    ) -> list[Prediction]: ...
    def predict(
        self,
        image_or_list: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Judges one photograph or a list of them. See `stlm_hub.predict.predictor.predict`.

        Args:
            image_or_list: path, bytes, PIL image, HxW or HxWx3 array, or a list of those.
            threshold: anomaly score in [0, 1] at or above which a photograph is anomalous; None is the calibrated one.

        Raises:
            ImageError: an input cannot be used as a photograph.
            ConfigError: the threshold is out of range.
        """
        from .predict.predictor import predict

        return predict(self, image_or_list, threshold=threshold)

    def save_pretrained(  # type: ignore[override]  # `config` is the model's own
        self,
        save_directory: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        config: STLMConfig | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Writes config.json and model.safetensors, and a short README.md where there is none.

        Args:
            save_directory: the folder; it is made.
            dtype: of the weights in the file; float16 halves it and costs a little precision. None keeps them.
            config: must be `self.config` or None; change `model.config` to save another one.
            model_card_kwargs: further variables of the card's template.

        Raises:
            ConfigError: `config` is another one.
            WeightsError: the dtype is not of a kind that can be loaded, or a weight is not finite in it.
        """
        if config is not None and config != self.config:
            raise ConfigError(
                "A model is saved with its own configuration; set model.config instead of passing config."
            )
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        weights = _to_save(self.state_dict(), dtype)
        _replace(folder / hub.CONFIG_NAME, json.dumps(self.config.to_dict(), indent=2).encode() + b"\n")
        metadata = {
            "format": "pt",
            "architecture": "stlm",
            "stlm_hub_version": __version__,
            "category": self.config.category,
            "config_sha256": config_digest(folder / hub.CONFIG_NAME),
        }
        _replace(folder / hub.WEIGHTS_NAME, _sorted_metadata(save(weights, metadata)))
        if not (folder / "README.md").exists():
            self.generate_model_card(**(model_card_kwargs or {})).save(folder / "README.md")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publishes the model as it is now, with a short card. `model_folder.publish` publishes a checked folder.

        Args:
            repo_id: `org/repo`; it is created where needed.
            options: of `huggingface_hub.PyTorchModelHubMixin.push_to_hub`: token, private, commit_message, branch, ...

        Returns:
            The URL of the commit.

        Raises:
            HubError: the Hub refuses or is out of reach.
        """
        with hub.hub_errors(repo_id):
            return str(super().push_to_hub(repo_id, **options))

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """A minimal valid card with what the configuration says."""
        return super().generate_model_card(
            *args, **{"category": self.config.category, "dataset": self.config.dataset, **kwargs}
        )


def config_digest(path: Path) -> str:
    """SHA-256 of what a config.json says, in hex; line ends and the order of fields make no difference.

    Raises:
        ConfigError: the file is not a valid configuration.
    """
    STLMConfig.load(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_saved_together(config: Path, weights: Path) -> None:
    """Whoever knows the SHA-256 of the weights thereby knows the config: the weights carry its digest.

    Raises:
        ConfigError: the config is not valid.
        WeightsError: the weights were saved with another config, or are not a safetensors file.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            digest = (file.metadata() or {}).get("config_sha256")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{weights} is not a safetensors file ({str(error)[:120]}); save it again.") from error
    if digest != config_digest(config):
        raise WeightsError(
            f"{weights} was not saved together with {config}; get the whole folder anew, or save both with "
            "STLM.save_pretrained."
        )


def _usable_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ConfigError(f'The device "{device}" cannot be used here ({reason}); use "cpu" or "cuda".') from error


def _to_save(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    if dtype not in (None, *SAVED_DTYPES):
        raise WeightsError(f"Weights are saved as float32, float16 or bfloat16, not as {dtype}.")
    weights = {}
    for name, tensor in state.items():
        kept = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        if not torch.isfinite(kept).all():
            raise WeightsError(
                f"{name} holds values that are not finite as {kept.dtype}; train again, or save as float32."
            )
        weights[name] = kept.detach().cpu().contiguous()
    return weights


def _sorted_metadata(data: bytes) -> bytes:
    """The same safetensors file with sorted metadata: the library writes them in another order at every run."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def _replace(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
