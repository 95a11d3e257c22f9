"""A patch memory on a frozen backbone for `benchmarks/quality.py`; see `memory_bank.py`."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.memory_bank import MemoryBank, anomaly_map, sample_patches
from benchmarks.peer_job import Job, Predict, Progress, as_tensor
from stlm_hub.models.backbones.efficientnet_lite0 import EfficientNetLite0
from stlm_hub.models.backbones.mobile_sam import MobileSam
from stlm_hub.models.patch_memory import patch_features

BACKBONES: dict[str, type[MobileSam] | type[EfficientNetLite0]] = {
    "memory-mobilesam": MobileSam,
    "memory-efficientnet": EfficientNetLite0,
}


def fit(job: Job, progress: Progress) -> None:
    """Fills the memory and writes it with the backbone to one safetensors file, both in half precision."""
    backbone = BACKBONES[job.method]().eval()
    backbone.load_pretrained()
    share = 1.0 if job.share is None else job.share

    def patches() -> Iterator[Tensor]:
        for image in job.images(progress):
            yield patch_features(backbone(image))[0]

    entries = sample_patches(patches(), share, torch.Generator().manual_seed(job.seed))
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file({name: tensor.contiguous() for name, tensor in (halved | {"entries": entries}).items()}, job.model)


def load(job: Job) -> Predict:
    """Reads what `fit` wrote. Distances are computed in float32."""
    tensors = load_file(job.model)
    bank = MemoryBank(tensors.pop("entries"))
    backbone = BACKBONES[job.method]().eval()
    backbone.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in tensors.items()})
    del tensors

    def judge(image: np.ndarray) -> tuple[np.ndarray, float]:
        distances = bank.distances(patch_features(backbone(as_tensor(image, job.size)))[0])
        values, score = anomaly_map(distances, job.size)
        return cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), score

    return judge
