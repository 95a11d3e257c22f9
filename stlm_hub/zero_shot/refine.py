"""Any anomaly map -> one with SAM's sharp edges: PPG and CPS around each extreme region, fused with the map.

It is the same for every detector's map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..predict.prediction import Prediction, found_mask
from .cascade import Cascade, cascade
from .point_prompts import extreme_region, point_prompts, ring_around
from .windows import Region, Window, at_sams_scale, limited, regions_of, window_around

if TYPE_CHECKING:
    from .segment import Decoded, Embedded, SegmentAnything

WEIGHT = 0.6
"""Of SAM's mask in the fused map; the rest is the map's own."""
LEAST_IOU = 0.9
"""That SAM must predict for its own mask; below it the map stays as it is."""
LEAST_COVER = 0.1
"""Share of the coarse region that SAM's mask must cover; below it SAM has found another thing.

Both, `WEIGHT` and `CORE` were chosen on pseudo anomalies painted on good photographs, never on test photographs. The
IoU with the coarse region says nothing: a blurred map marks four times the area of a defect that SAM finds exactly.
"""
CORE = 0.5
"""Of the height in limits, x / (1 + x), of a region: what is as high is its core, which picks SAM's proposal."""
LARGEST_SHARE = 0.5
"""Of the photograph: where the map is extreme on more of it, there is no region to refine."""
WORKING_SIDE = 256
"""Longer side of the frame in which points are chosen: the grid of SAM's own logits."""


@dataclass(frozen=True, eq=False)
class Refinement:
    """What SAM found of one region.

    Args:
        region: in the photograph.
        window: where SAM looked.
        coarse: hxw bool in the window's working frame, the region before.
        found: the three passes in that frame.
    """

    region: Region
    window: Window
    coarse: np.ndarray
    found: Cascade

    @property
    def is_trusted(self) -> bool:
        """Whether SAM trusts its mask, and the mask covers some of the region."""
        cover = (self.found.mask & self.coarse).sum() / max(1, self.coarse.sum())
        return bool(self.found.predicted_iou >= LEAST_IOU and cover >= LEAST_COVER)


def refined(prediction: Prediction, sam: SegmentAnything | None = None) -> Prediction:
    """The prediction with a refined map and mask; score, threshold and verdict stay.

    Args:
        prediction: of any detector.
        sam: None: `segment_anything()`.

    Raises:
        WeightsError: SAM's weights cannot be had.
    """
    # Of a good part, and of a picture that is not the part, there is nothing to refine.
    if prediction.verdict != "reject" or not prediction.mask.any():
        return prediction
    sharp = refine_map(prediction.image, prediction.anomaly_map, prediction.threshold, sam)
    mask = found_mask(sharp, prediction.score, prediction.threshold, prediction.minimum_area)
    return dataclasses.replace(prediction, anomaly_map=sharp, mask=mask)


def refine_map(
    image: np.ndarray, anomaly_map: np.ndarray, threshold: float, sam: SegmentAnything | None = None
) -> np.ndarray:
    """
    Args:
        image: HxWx3 uint8 RGB.
        anomaly_map: HxW float in [0, 1] in the same frame.
        threshold: in [0, 1], of the extreme regions.
        sam: None: `segment_anything()`.

    Returns:
        HxW float32 in [0, 1]. An empty map and one that is extreme nearly everywhere come back as they are. Where the
        map is 0 it stays 0: outside the region of a model that has one.

    Raises:
        WeightsError: SAM's weights cannot be had.
    """
    result = anomaly_map.astype(np.float32, copy=True)
    for one in refinements(image, anomaly_map, threshold, sam):
        if one.is_trusted:
            _fuse(result, anomaly_map, one)
    return np.where(anomaly_map > 0, result, np.float32(0))


def refinements(
    image: np.ndarray, anomaly_map: np.ndarray, threshold: float, sam: SegmentAnything | None = None
) -> Iterator[Refinement]:
    """What SAM finds of each extreme region, the highest first. Arguments: see `refine_map`."""
    extreme = extreme_region(anomaly_map, threshold)
    if not extreme.any() or extreme.mean() > LARGEST_SHARE:
        return
    labels, regions = regions_of(anomaly_map, extreme)
    if sam is None and regions:
        from .segment import segment_anything  # the command line and the tests of geometry need no weights

        sam = segment_anything()
    seen: dict[Window, Embedded] = {}
    for region in regions:
        assert sam is not None
        window = window_around(region, (image.shape[0], image.shape[1]))
        if window not in seen:
            seen[window] = sam.embed(at_sams_scale(np.ascontiguousarray(window.of(image))))
        coarse = _working(window.of(labels) == region.label) > 0
        others = _working(window.of(extreme)) > 0
        values = _working(window.of(anomaly_map))
        prompts = point_prompts(values, coarse, seen[window].features, avoid=others)
        if len(prompts.positive):
            found = cascade(_Scaled(seen[window], coarse.shape), prompts, _core(values, coarse))
            yield Refinement(region, window, coarse, found)


def fuse(anomaly_map: np.ndarray, logits: np.ndarray, area: np.ndarray, peak: float) -> np.ndarray:
    """The mean of the map and of SAM's mask at the height of the region, within an area; outside, the map.

    Args:
        anomaly_map: HxW float in [0, 1].
        logits: HxW, SAM's, above 0 inside.
        area: HxW bool: the region, its ring and SAM's mask.
        peak: highest value of the map in the region, so that values keep their meaning: nothing is re-normalised.

    Returns:
        HxW float32 in [0, 1].
    """
    inside = 1 / (1 + np.exp(-logits.clip(-30, 30)))
    return np.where(area, (1 - WEIGHT) * anomaly_map + WEIGHT * peak * inside, anomaly_map).astype(np.float32)


def _fuse(result: np.ndarray, anomaly_map: np.ndarray, one: Refinement) -> None:
    """Writes one region into its window of `result`. Where two regions meet, the higher value stays."""
    place, before = one.window.of(result), one.window.of(anomaly_map)
    size = (one.window.width, one.window.height)
    logits = cv2.resize(one.found.logits[-1], size, interpolation=cv2.INTER_LINEAR)
    near = one.coarse | ring_around(one.coarse) | one.found.mask
    area = cv2.resize(near.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    fused = fuse(before, logits, area, one.region.peak)
    touched = place != before
    place[:] = np.where(area & touched, np.maximum(place, fused), np.where(area, fused, place))


def _core(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    """HxW bool: where the map is at least `CORE` times as high, in limits, as the region's highest place."""
    limits = values / (1 - values.clip(max=1 - 1e-6))
    core: np.ndarray = region & (limits >= CORE * limits[region].max())
    return core


def _working(array: np.ndarray) -> np.ndarray:
    """HxW float or bool -> float32 with a longer side of at most `WORKING_SIDE`."""
    return limited(array.astype(np.float32), WORKING_SIDE)


class _Scaled:
    """An embedded window that takes prompts and gives logits in the working frame."""

    def __init__(self, embedded: Embedded, shape: tuple[int, int]) -> None:
        self._embedded, self._shape = embedded, shape
        self._factor = np.array((embedded.shape[1] / shape[1], embedded.shape[0] / shape[0]))  # of x and y

    def decode(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        *,
        low_res: np.ndarray | None = None,
        box: np.ndarray | None = None,
        proposals: bool = False,
    ) -> Decoded:
        """See `segment.Embedded.decode`."""
        box = None if box is None else box * np.tile(self._factor, 2)
        points = (points + 0.5) * self._factor - 0.5
        found = self._embedded.decode(points, labels, low_res=low_res, box=box, proposals=proposals)
        size = (self._shape[1], self._shape[0])
        return found._replace(logits=np.stack([cv2.resize(logits, size) for logits in found.logits]))
