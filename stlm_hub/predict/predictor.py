"""The one path from an image to a `Prediction`; evaluation, calibration and the CLI all take it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, ImageError
from ..models.stlm.anomaly_maps import compute_map
from ..models.stlm.network import STLMNetwork, STLMOutput
from .images import ImageInput, load_image

DEFAULT_THRESHOLD = 0.5
"""Of a model that was never calibrated: the map values are probabilities."""

BATCH_PIXELS = 2**20
"""Images are batched up to this many network input pixels: one image at 1024 px, four at 512 px."""


def found_mask(anomaly_map: np.ndarray, score: float, threshold: float) -> np.ndarray:
    """HxW bool: where the map reaches the threshold; empty where the score does not."""
    return (anomaly_map >= threshold) & (score >= threshold)


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Prediction:
    """What the model says of one photograph.

    Args:
        image: HxWx3 uint8 RGB as displayed, i.e. after EXIF rotation.
        anomaly_map: HxW float32 in [0, 1], in the frame of `image`; never re-normalised per image.
        score: anomaly score in [0, 1], the mean of the highest `score_top_k` map values at the network's size.
        threshold: score at or above which the photograph is judged anomalous.
    """

    image: np.ndarray
    anomaly_map: np.ndarray
    score: float
    threshold: float

    @property
    def is_anomalous(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold

    @property
    def mask(self) -> np.ndarray:
        """HxW bool: where the map reaches the threshold; empty for a photograph judged normal."""
        return found_mask(self.anomaly_map, self.score, self.threshold)

    def with_threshold(self, threshold: float) -> Prediction:
        """The same prediction judged at another threshold in [0, 1]; the model does not run again."""
        return replace(self, threshold=checked_threshold(threshold))

    def panel(self, title: str = "") -> np.ndarray:
        """Photograph, heatmap and outline side by side with the verdict: HxWx3 uint8 RGB."""
        from ..drawing.panel import panel  # training and evaluation draw nothing

        return panel(
            self.image, self.anomaly_map, self.threshold, self.mask, self.score, self.is_anomalous, title=title
        )

    def show(self) -> None:
        """Opens the panel in the system's image viewer."""
        Image.fromarray(self.panel()).show()

    def save(self, path: str | Path, title: str = "") -> Path:
        """Writes the panel; the folder is made, the suffix (.png, .jpg, ...) decides the format.

        Raises:
            ImageError: the suffix names no format that can be written, or the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.panel(title)).save(path)
        except (OSError, ValueError, KeyError) as error:
            raise ImageError(f"{path} cannot be written ({error}); name a file that ends in .png or .jpg.") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: verdict, score, threshold, size, and the anomalous share of the pixels."""
        height, width = self.anomaly_map.shape
        return {
            "is_anomalous": self.is_anomalous,
            "score": self.score,
            "threshold": self.threshold,
            "width": width,
            "height": height,
            "map_max": float(self.anomaly_map.max()),
            "anomalous_area": float(self.mask.mean()),
        }

    def __str__(self) -> str:
        return json.dumps(self.to_dict())


@dataclass(frozen=True, eq=False)
class ScoredMap:
    """One map of one image before it is judged: HxW float32 in the image's frame, and its anomaly score."""

    anomaly_map: np.ndarray
    score: float


@overload
def predict(model: STLMNetwork, inputs: ImageInput, *, threshold: float | None = None) -> Prediction: ...
@overload
def predict(
    model: STLMNetwork, inputs: list[ImageInput] | tuple[ImageInput, ...], *, threshold: float | None = None
) -> list[Prediction]: ...
def predict(
    model: STLMNetwork,
    inputs: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
    *,
    threshold: float | None = None,
) -> Prediction | list[Prediction]:
    """Judges one photograph or a list of them (a list in, a list out, in order).

    Args:
        model: in eval mode; its config says size, map, top K and calibration.
        inputs: path, bytes, PIL image, HxW or HxWx3 array (uint8, uint16, float in [0, 1]), or a list of those.
        threshold: in [0, 1]; by default the calibrated one.

    Raises:
        ImageError: an input cannot be used as a photograph; nothing is predicted then.
        ConfigError: the threshold is out of range.
    """
    config = model.config
    if threshold is None:
        threshold = config.calibration.threshold if config.calibration else DEFAULT_THRESHOLD
    threshold = checked_threshold(threshold)
    many = isinstance(inputs, (list, tuple))
    images = [load_image(source) for source in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
    predictions = [
        Prediction(image, maps[config.anomaly_map].anomaly_map, maps[config.anomaly_map].score, threshold)
        for image, maps in zip(images, infer(model, images, (config.anomaly_map,)), strict=True)
    ]
    return predictions if many else predictions[0]


def infer(
    model: STLMNetwork, images: Iterable[np.ndarray], which: Sequence[str] = ("aggregation", "cosine")
) -> Iterator[dict[str, ScoredMap]]:
    """Runs the network over images in batches.

    Args:
        model: the network; it is left in the mode it was in.
        images: HxWx3 uint8 RGB each, of any size.
        which: names of maps, see `stlm_hub.models.stlm.anomaly_maps.available_maps`.

    Yields:
        For each image, in order, the wanted maps with their scores.

    Raises:
        ConfigError: the model has no such map.
    """
    for batch, output in forward(model, images):
        with torch.inference_mode():
            maps = {name: compute_map(name, output, model.config)[:, 0] for name in which}
            top_k = {name: m.flatten(1).topk(model.config.score_top_k).values.mean(1) for name, m in maps.items()}
        arrays = {name: m.cpu().numpy() for name, m in maps.items()}
        scores = {name: s.cpu().tolist() for name, s in top_k.items()}
        for i, image in enumerate(batch):
            yield {
                name: ScoredMap(_to_frame(arrays[name][i], image.shape[:2]), min(1.0, scores[name][i]))
                for name in which
            }


def forward(model: STLMNetwork, images: Iterable[np.ndarray]) -> Iterator[tuple[list[np.ndarray], STLMOutput]]:
    """Batches of images, each with what the network puts out; arguments as `infer` has them."""
    per_batch = max(1, BATCH_PIXELS // model.config.image_size**2)
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == per_batch:
            yield batch, _forward_batch(model, batch)
            batch = []
    if batch:
        yield batch, _forward_batch(model, batch)


def _forward_batch(model: STLMNetwork, images: list[np.ndarray]) -> STLMOutput:
    training = model.training
    if training:  # not otherwise: switching drops what the encoders keep, which another thread may be about to read
        model.eval()
    try:
        with torch.inference_mode():
            output: STLMOutput = model(as_input(images, model))
    finally:
        if training:
            model.train()
    return output


def as_input(images: Sequence[np.ndarray], model: STLMNetwork) -> Tensor:
    """HxWx3 uint8 RGB of any size -> Bx3xSxS float32 in [0, 255], where the model is."""
    size = model.config.image_size
    pixels = np.stack([resize_image(image, size) for image in images]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(next(model.parameters()).device, torch.float32)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """HxWx3 uint8 -> size x size x 3 uint8: bilinear; area means where it shrinks, so that nothing aliases."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = image.shape[0] >= size and image.shape[1] >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _to_frame(anomaly_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if anomaly_map.shape == tuple(shape):
        return anomaly_map
    return cv2.resize(anomaly_map, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)


def checked_threshold(threshold: float) -> float:
    """The threshold as a float.

    Raises:
        ConfigError: it is not a number in [0, 1].
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.floating)) or not 0 <= threshold <= 1:
        raise ConfigError(f"The threshold must be a number from 0 to 1, not {threshold!r}.")
    return float(threshold)
