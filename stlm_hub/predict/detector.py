"""What everything that judges photographs has in common, whichever runtime is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, overload

from ..models.stlm.judging import Calibration
from .images import ImageInput
from .prediction import Prediction, Unusable


class Detector(Protocol):
    """Judges photographs: a model in PyTorch, an exported one, a zero-shot method."""

    @property
    def name(self) -> str:
        """What people call it, e.g. "mvtec-bottle"."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are brought to."""

    @property
    def calibration(self) -> Calibration | None:
        """The threshold and where it comes from; None: not calibrated."""

    @overload
    def predict(
        self,
        image_or_list: ImageInput,
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        image_or_list: list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> list[Prediction]: ...
    def predict(
        self,
        image_or_list: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Prediction | list[Prediction]:
        """Judges one photograph or a list of them, at the calibrated threshold or another one in [0, 1].

        `review_threshold` is the score from which one below `threshold` is worth a second look. `refine` says whether
        Segment Anything outlines what is rejected; None: as the detector does by itself.
        """

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, a few at a time in memory; what cannot be used is `Unusable`."""
