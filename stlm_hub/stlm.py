"""STLM, the class that people use: the model that can be loaded, asked, saved and published."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from .model_folder import hub
from .model_folder.folder import read_folder, write_config, write_judging
from .model_folder.names import FAMILIARITY_NAME, MEMORY_NAME, REGION_NAME, WEIGHTS_NAME, is_export
from .model_folder.versions import read_one_version, replace
from .model_folder.weights_file import read_model_weights, write_weights
from .model_folder.zoo import folder_of
from .models.acceleration import Acceleration, placed
from .models.device import usable_device
from .models.stlm.anomaly_maps import AnomalyMaps
from .models.stlm.config import STLMConfig
from .models.stlm.judging import Judging
from .models.stlm.network import STLMNetwork
from .runtime.beside import Preferred
from .runtime.detector import ExportedModel
from .runtime.facts import check_export_request
from .runtime.judging_model import JudgingModel
from .validate import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from .predict.prediction import Prediction


class STLM(AnomalyMaps, JudgingModel):
    """Two-stream lightweight anomaly detection (arXiv 2402.19145). `predict` and `predict_many`: see `JudgingModel`.

    Args:
        config: what it is made of; None is the paper's network without a memory.
        judging: how it judges; None is by the map with aggregation, not calibrated.
        name: what people call it.
        network: that is there already; None makes one.

    Example:
        >>> model = STLM.from_pretrained("mvtec-bottle")
        >>> model.predict("photo.jpg").is_anomalous
    """

    def __init__(
        self,
        config: STLMConfig | None = None,
        judging: Judging | None = None,
        name: str = "stlm",
        *,
        network: STLMNetwork | None = None,
    ) -> None:
        super().__init__(STLMConfig() if config is None else config, Judging() if judging is None else judging, network)
        self.name = name
        self.preferred: Preferred | None = None  # an export in its folder that judges in its place

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        backend: str | None = None,
    ) -> STLM:
        """Loads a model, in eval mode. Of a folder that `stlm export` wrote, an `ExportedModel`, which judges alike.

        Args:
            name: alias of the zoo, `org/repo`, `org/repo@revision` or a folder. See `model_folder.hub.resolve`.
            revision: branch, tag or commit.
            device: where it runs; None is "cuda" where there is one, else "cpu".
            local_files_only: use folders and the cache only.
            token: access token of the Hub; None uses the one of `hf auth login`.
            backend: "torch": `predict` computes in PyTorch, even where a faster export lies in the model's folder.
                "torch bf16", "torch compiled" and "torch bf16 compiled" are faster on graphics cards, see
                `stlm_hub.models.acceleration`; scores in bfloat16 move a little.

        Raises:
            HubError: there is no such model, or it cannot be downloaded.
            ConfigError: config.json or calibration.json is not valid, or the device cannot be used; or what is asked
                of an export is none of its own.
            WeightsError: the weights are missing, a pickle, altered, or do not fit config.json.
        """
        named = folder_of(name)
        if named is not None and is_export(named):
            check_export_request(named, device=device, backend=backend, revision=revision)
            return cast("STLM", ExportedModel.from_folder(name))
        place = usable_device(device)
        acceleration = Acceleration.of(backend or "torch")
        local = hub.resolve(name, revision=revision, token=token, local_files_only=local_files_only)

        def read() -> tuple[STLMConfig, Judging, dict[str, dict[str, Tensor]]]:
            config, judging = read_folder(local.folder, local.sha256)
            with torch.device("meta"):  # nothing is allocated before the files' headers are checked
                expected = AnomalyMaps(config, judging)
            return config, judging, read_model_weights(local.folder, expected, local.sha256)

        config, judging, state = read_one_version(local.folder, read)
        with torch.random.fork_rng(devices=[]):  # initial values are drawn and thrown away: leave the user's seed alone
            model = cls(config, judging, local.alias or Path(local.source).name)
        for part, weights in state.items():
            model.get_submodule(part).load_state_dict(weights, strict=True)
        model = placed(model.eval(), place)
        model.acceleration = acceleration
        if backend is None and place.type == "cpu":
            model.preferred = Preferred.beside(local.folder, model)
        return model

    def judge(
        self, images: Sequence[np.ndarray], threshold: float | None = None, review_threshold: float | None = None
    ) -> list[Prediction]:
        """Predictions of decoded photographs, by the export that is preferred, or in PyTorch; see `JudgingModel`."""
        from .predict.predictor import predict

        exported = self.preferred.instead_of(self) if self.preferred is not None else None
        if exported is not None:
            return exported.judge(images, threshold, review_threshold)
        return predict(self, images, threshold, review_threshold)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Writes config.json, calibration.json and the files of tensors; the memory's where it has one.

        Args:
            save_directory: the folder; it is made.
            dtype: of the weights in the files; float16 halves them and costs a little precision. None keeps them.

        Raises:
            WeightsError: the dtype is not of a kind that can be loaded, or a weight is not finite in it.
            ConfigError: the folder cannot be written, or the disk is full; an earlier model in it stays as it was.
        """

        def write(folder: Path) -> None:
            if self.network is not None:
                write_weights(folder / WEIGHTS_NAME, self.network.state_dict(), dtype)
            if self.patch_memory is not None:
                write_weights(folder / MEMORY_NAME, self.patch_memory.state_dict(), dtype)
            write_config(folder, self.config)
            self.save_calibration(folder)

        replace(expanded(save_directory), write, whole=False)

    def save_calibration(self, folder: Path) -> None:
        """Writes what a calibration decides, into a folder of the model: calibration.json, familiarity, region."""
        write_weights(folder / FAMILIARITY_NAME, self.familiarity.state_dict())  # kilobytes, in full precision
        if self.region is not None:
            write_weights(folder / REGION_NAME, self.region.state_dict())
        write_judging(folder, self.judging)

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool = False, **options: Any) -> str:
        """Publishes the model as it is now, with a card of what is known. See `model_folder.publish.publish`.

        Args:
            repo_id: `org/repo`; it is created where needed.
            token: access token with write permission; None uses the one of `hf auth login`.
            private: whether a repository that is created is private.
            options: further ones of `publish`: tag, endpoint.

        Returns:
            The URL of the repository.

        Raises:
            HubError: the Hub refuses or is out of reach.
        """
        from .model_folder.card.card import write_card
        from .model_folder.publish import publish

        with TemporaryDirectory(prefix="stlm-push-") as name:
            folder = Path(name)
            self.save_pretrained(folder)
            write_card(folder, repo_id)
            return publish(folder, repo_id, token=token, private=private, **options).url
