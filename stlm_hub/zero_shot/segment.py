"""Segment Anything on a photograph: a click on a part gives its mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from segment_anything import SamPredictor
from torch import Tensor

from ..errors import ImageError, WeightsError
from ..models.sam import SAM_GRID, SAM_SIDE, load_sam
from ..starting_weights.sources import starting_weights
from ..starting_weights.starting_weights import StartingWeights


class Segment(NamedTuple):
    """A mask in the frame of the photograph, HxW bool, and the IoU with the true mask that SAM predicts for it."""

    mask: np.ndarray
    predicted_iou: float


class Decoded(NamedTuple):
    """Masks that one pass of SAM's decoder proposes for one set of prompts.

    logits: NxHxW float32 in the frame of the photograph; above 0 is inside.
    predicted_iou: N float32, what SAM thinks of each.
    low_res: Nx256x256 float32, in the form that the next pass takes.
    """

    logits: np.ndarray
    predicted_iou: np.ndarray
    low_res: np.ndarray


class Embedded:
    """A photograph that SAM's encoder has seen, ready for any number of prompts.

    Args:
        sam: encoder, prompts and decoder.
        image: HxWx3 uint8 RGB of any size; it is brought to 1024 px on its longer side.
    """

    def __init__(self, sam: SegmentAnything, image: np.ndarray) -> None:
        self.shape: tuple[int, int] = (image.shape[0], image.shape[1])
        self._predictor = SamPredictor(sam.model)
        with torch.inference_mode():
            self._predictor.set_image(image)

    @property
    def features(self) -> Tensor:
        """256xhxw: the embedding of the photograph alone, without the cells that only pad it to a square."""
        height, width = self._predictor.input_size
        cells = [max(1, round(SAM_GRID * side / SAM_SIDE)) for side in (height, width)]
        whole: Tensor = self._predictor.features
        return whole[0, :, : cells[0], : cells[1]]

    def decode(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        *,
        low_res: np.ndarray | None = None,
        box: np.ndarray | None = None,
        proposals: bool = False,
    ) -> Decoded:
        """One pass of the mask decoder.

        Args:
            points: Nx2 float, (x, y) in pixels of the photograph.
            labels: N int, 1 for a point inside, 0 for one outside.
            low_res: 1x256x256, logits of the pass before.
            box: (left, top, right, bottom) in pixels.
            proposals: three masks of rising extent in place of one; better for a single point.
        """
        with torch.inference_mode():
            masks, quality, small = self._predictor.predict(
                points, labels, box, low_res, multimask_output=proposals, return_logits=True
            )
        return Decoded(masks, quality, small)


class SegmentAnything:
    """SAM's encoder, prompt encoder and mask decoder with weights.

    Args:
        weights: MobileSAM's encoder and SAM's decoder, with the mask head and the prompts.

    Raises:
        WeightsError: the weights were kept without the mask head or the prompts.
    """

    def __init__(self, weights: StartingWeights) -> None:
        if weights.mask_head is None or weights.prompts is None:
            raise WeightsError(
                f"{weights.source or 'The checkpoint'} came without SAM's mask head and prompts, which masks need; "
                "get them with: stlm weights fetch --force"
            )
        self.model = load_sam(weights.encoder, weights.decoder, weights.mask_head, weights.prompts)

    def embed(self, image: np.ndarray) -> Embedded:
        """HxWx3 uint8 RGB -> what the encoder sees of it. Takes a second or two of a processor's core."""
        return Embedded(self, image)


@cache
def segment_anything(weights: Path | None = None) -> SegmentAnything:
    """SAM with the weights that a training would start from, kept for the next call.

    Args:
        weights: a checkpoint of MobileSAM or another form that `read_starting_weights` knows; None: see
            `stlm_hub.starting_weights.sources.starting_weights`.

    Raises:
        WeightsError: they cannot be had; the message says how to get them.
    """
    return SegmentAnything(starting_weights(weights))


def segment_at(
    image: np.ndarray, point: tuple[float, float], *, outside: Sequence[tuple[float, float]] = ()
) -> Segment:
    """The thing in a photograph that a click is on: of SAM's proposals the one that it thinks most of.

    Args:
        image: HxWx3 uint8 RGB, see `load_image`.
        point: (x, y) in pixels, from the upper left.
        outside: points that are not part of it.

    Raises:
        ImageError: a point lies outside the photograph.
        WeightsError: SAM's weights cannot be had.
    """
    return segment_embedded(segment_anything().embed(image), point, outside=outside)


def segment_embedded(
    embedded: Embedded, point: tuple[float, float], *, outside: Sequence[tuple[float, float]] = ()
) -> Segment:
    """`segment_at` for a photograph that is embedded already: a second click on it takes 0.1 s."""
    points = np.array([point, *outside], float).reshape(-1, 2)
    height, width = embedded.shape
    if not ((points >= 0) & (points < (width, height))).all():
        raise ImageError(f"A click lies outside the photograph of {width} x {height} px; click on the part.")
    found = embedded.decode(points, np.array([1] + [0] * len(outside)), proposals=True)
    best = int(found.predicted_iou.argmax())
    return Segment(found.logits[best] > 0, float(found.predicted_iou[best]))
