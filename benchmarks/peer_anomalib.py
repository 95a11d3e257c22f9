"""anomalib's PatchCore and PaDiM for `benchmarks/quality.py`. They run in an environment of their own (`make peers`).

anomalib's classes do the work: features, coreset, Gaussians, maps and scores. This file gives them photographs and a
backbone whose weights come as a package. It does without Lightning's trainer, which adds nothing to either method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from anomalib.models.components.sampling import k_center_greedy
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

from benchmarks.peer_job import Job, Predict, Progress, as_tensor
from stlm_hub.models.backbones.efficientnet_lite0 import PIXEL_MEAN, PIXEL_STD, TIMM_NAME, load_imagenet_weights

PATCHCORE_LAYERS = ["blocks.2", "blocks.4"]  # H/8 and H/16, like layer2 and layer3 of the ResNets
PADIM_LAYERS = ["blocks.1", "blocks.2", "blocks.4"]  # H/4, H/8 and H/16, like layer1 to layer3
PADIM_FEATURES = 100  # out of 176; what anomalib and the paper use with the smaller ResNet
NEIGHBOURS = 9  # for reweighting the score; anomalib's default

T = TypeVar("T")


def build(method: str) -> PatchcoreModel | PadimModel:
    """anomalib's model on EfficientNet-lite0, without weights. anomalib has no defaults for it, see the constants."""
    if method == "patchcore":
        return PatchcoreModel(PATCHCORE_LAYERS, TIMM_NAME, pre_trained=False, num_neighbors=NEIGHBOURS)
    return PadimModel(TIMM_NAME, PADIM_LAYERS, pre_trained=False, n_features=PADIM_FEATURES)


def fit(job: Job, progress: Progress) -> None:
    """Fits the method and writes its state dict in float32, as anomalib keeps it."""
    model = build(job.method)
    load_imagenet_weights(model.feature_extractor.feature_extractor)
    model.train()
    n = len(job.photographs)
    chosen = 0
    if job.method == "patchcore":
        chosen = int(n * (job.size // 8) ** 2 * (job.share or 0.0)) - 1
    for image in job.images(progress, further=chosen or 1):
        model((image - PIXEL_MEAN) / PIXEL_STD)
    if job.method == "patchcore":

        def watched(steps: Iterable[T], **_: object) -> Iterator[T]:
            for done, step in enumerate(steps, start=1):
                yield step
                progress(n + done, n + chosen)

        k_center_greedy.tqdm = watched
        model.subsample_embedding(job.share)
    else:
        model.fit()
        progress(n + 1, n + 1)
    torch.save(model.state_dict(), job.model)


def load(job: Job) -> Predict:
    """Reads what `fit` wrote."""
    model = build(job.method)
    model.load_state_dict(torch.load(job.model, map_location="cpu", weights_only=True))
    model.eval()

    def judge(image: np.ndarray) -> tuple[np.ndarray, float]:
        output = model((as_tensor(image, job.size) - PIXEL_MEAN) / PIXEL_STD)
        values = output.anomaly_map.squeeze().float().numpy()
        return cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), float(output.pred_score)

    return judge
