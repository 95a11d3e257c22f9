"""One to five photographs of good parts in place of a training: distance to the nearest patch that they show.

In the manner of few-shot PatchCore and WinCLIP's reference memory (arXiv 2106.08265, 2303.14814), on the backbones at
hand: EfficientNet-lite0 and MobileSAM's stages. Turned and disturbed copies stand in for the photographs that are
missing; photographs of good parts that no memory has seen stand in nowhere, so the threshold promises no rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError
from ..models.backbones import BACKBONES, Backbone, make_backbone
from ..models.patch_memory import nearest_distances, patch_features, smooth
from ..models.stlm.anomaly_maps import in_unit
from ..predict.frame import to_frame, to_input
from ..predict.images import ImageInput, load_image
from ..predict.prediction import Prediction, checked_threshold
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again

if TYPE_CHECKING:
    from ..models.stlm.judging import Calibration

MOST_REFERENCES = 5
SIZE = 320
"""Side in pixels that photographs are squeezed to."""
QUARTER_TURNS = (0, 1, 2, 3)
DISTURBED = 2
"""Disturbed copies of each reference in the memory, beside the reference itself and its turns."""
HELD_BACK = 4
"""Further disturbed copies of each reference: how far the same part is when it is photographed again."""
LIMIT_QUANTILE = 0.995
"""Of the held-back copies' patches: the limit that distances are counted in."""
TOP_SHARE = 1e-3
"""Share of the map whose mean is the anomaly score."""
THRESHOLD = 0.5
"""As far as the same part was when it was photographed again. Not calibrated: on some parts good ones lie above it."""
MOST_ENTRIES = 60_000


class References:
    """Judges photographs by a few good ones. Satisfies `stlm_hub.predict.detector.Detector`.

    Args:
        photographs: one to five of good parts, of any sizes.
        turned: whether parts lie in any of four directions.
        backbones: names of `BACKBONES`.
        load: whether their pretrained weights are set; tests do without.
        device: where it runs.

    Raises:
        DataError: there are none or more than five.
        ImageError: one cannot be used as a photograph.
        WeightsError: the weights of a backbone cannot be had.

    Example:
        >>> References(["good1.jpg", "good2.jpg"]).predict("part.jpg").score
    """

    def __init__(
        self,
        photographs: Sequence[ImageInput],
        *,
        turned: bool = True,
        backbones: Sequence[str] = tuple(BACKBONES),
        load: bool = True,
        device: str | torch.device = "cpu",
    ) -> None:
        if not 1 <= len(photographs) <= MOST_REFERENCES:
            raise DataError(
                f"There are {len(photographs)} reference photographs; give one to {MOST_REFERENCES}, or train a model "
                "on more with: stlm finetune"
            )
        images = [load_image(photograph) for photograph in photographs]
        self.name = f"{len(images)} reference{'s' if len(images) > 1 else ''}"
        self._device = torch.device(device)
        self._memories = [_Memory(_backbone(name, load, self._device)) for name in backbones]
        rng = np.random.default_rng(0)
        nuisance = Nuisance()
        known = [np.rot90(image, turn) for image in images for turn in (QUARTER_TURNS if turned else (0,))]
        known += [photographed_again(image, rng, nuisance) for image in images for _ in range(DISTURBED)]
        again = [photographed_again(image, rng, nuisance) for image in images for _ in range(HELD_BACK)]
        with torch.inference_mode():
            for memory in self._memories:
                memory.fill([self._input(image) for image in known])
                memory.measure([self._input(image) for image in again])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are squeezed to."""
        return (SIZE, SIZE)

    @property
    def calibration(self) -> Calibration | None:
        """None: a few photographs certify no rate."""
        return None

    def anomaly_map(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """HxWx3 uint8 RGB -> HxW float32 in [0, 1) in its frame, and the anomaly score in [0, 1).

        Distances count in limits, the mean of the backbones, x / (1 + x): 0.5 is as far as the same part was when it
        was photographed again.
        """
        with torch.inference_mode():
            limits = torch.stack([memory.limits(self._input(image)) for memory in self._memories]).mean(0)
            highest = limits.flatten().topk(max(1, round(TOP_SHARE * limits.numel()))).values.mean()
            whole = F.interpolate(in_unit(limits), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
            score = float(in_unit(highest))
        shape = (image.shape[0], image.shape[1])
        return to_frame(whole[0, 0].float().cpu().numpy(), shape), score

    @overload
    def predict(
        self, image_or_list: ImageInput, *, threshold: float | None = None, refine: bool = False
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        image_or_list: list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        refine: bool = False,
    ) -> list[Prediction]: ...
    def predict(
        self,
        image_or_list: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        refine: bool = False,
    ) -> Prediction | list[Prediction]:
        """Judges one photograph or a list of them.

        Args:
            image_or_list: as of `STLM.predict`.
            threshold: in [0, 1]; None is `THRESHOLD`.
            refine: whether SAM sharpens the mask, see `refine.refined`.

        Raises:
            ImageError: an input cannot be used as a photograph.
            ConfigError: the threshold is out of range.
        """
        wanted = THRESHOLD if threshold is None else checked_threshold(threshold)
        if isinstance(image_or_list, (list, tuple)):
            return [self._judge(image, wanted, refine) for image in [load_image(source) for source in image_or_list]]
        return self._judge(load_image(image_or_list), wanted, refine)

    def _judge(self, image: np.ndarray, threshold: float, refine: bool) -> Prediction:
        anomaly_map, score = self.anomaly_map(image)
        prediction = Prediction(image, anomaly_map, score, threshold)
        if not refine:
            return prediction
        from .refine import refined

        return refined(prediction)

    def _input(self, image: np.ndarray) -> Tensor:
        return to_input([np.ascontiguousarray(image)], (SIZE, SIZE), self._device)


class _Memory:
    """All patches of the references on one backbone, and the limit of distances to them."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.mean = self.spread = self.entries = torch.zeros(0)
        self.limit = 1.0

    def fill(self, inputs: Sequence[Tensor]) -> None:
        """1x3xSxS each. Channels are brought to the same spread, so that none decides alone."""
        seen = torch.cat([self._patches(pixels).flatten(0, -2) for pixels in inputs])
        self.mean, self.spread = seen.mean(0), seen.std(0).clamp_min(1e-6)
        if len(seen) > MOST_ENTRIES:
            kept = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:MOST_ENTRIES]
            seen = seen[kept.to(seen.device)]
        self.entries = (seen - self.mean) / self.spread

    def measure(self, inputs: Sequence[Tensor]) -> None:
        """Sets the limit from the same parts photographed again."""
        found = torch.cat([self.distances(pixels).flatten() for pixels in inputs])
        self.limit = max(float(torch.quantile(found, LIMIT_QUANTILE)), 1e-6)

    def distances(self, pixels: Tensor) -> Tensor:
        """1x3xSxS -> 1x1xhxw, Euclidean and smoothed."""
        patches = (self._patches(pixels) - self.mean) / self.spread
        return smooth(nearest_distances(patches[0], self.entries)[None, None])

    def limits(self, pixels: Tensor) -> Tensor:
        """`distances` in limits."""
        return self.distances(pixels) / self.limit

    def _patches(self, pixels: Tensor) -> Tensor:
        return patch_features(self.backbone(pixels))


def _backbone(name: str, load: bool, device: torch.device) -> Backbone:
    backbone = make_backbone(name)
    if load:
        backbone.load_pretrained()
    return backbone.to(device)  # type: ignore[attr-defined]  # each is a module
