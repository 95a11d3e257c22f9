"""The interface of everything that judges photographs."""

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
        """Judges one photograph or a list of them (a list in, a list out, in order).

        Args:
            image_or_list: what `images.read_picture` takes, or a list of those.
            threshold: anomaly score in [0, 1] at or above which a photograph is rejected; None: the detector's own.
            review_threshold: score in [0, `threshold`] at or above which a photograph is worth a second look; None: the
                detector's own.
            refine: whether Segment Anything outlines what is rejected; None: the detector's own choice.

        Raises:
            ImageError: an input cannot be used as a photograph; nothing is predicted then.
            ConfigError: a threshold is out of range.
        """

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, a few at a time in memory. Arguments: see `predict`.

        Yields:
            For each photograph, in order, its prediction, or an `Unusable` with the reason.
        """
