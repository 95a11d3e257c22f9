"""The base of a model in PyTorch and of an exported one: `predict` and `predict_many`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from ..models.stlm.config import STLMConfig
from ..models.stlm.judging import Calibration, Judging
from ..predict.images import ImageInput
from ..predict.prediction import Prediction, Unusable
from ..predict.verdicts import judge_given, judge_many
from ..zero_shot.as_chosen import all_outlined, outlined


class JudgingModel(ABC):
    """The base of `STLM` and `ExportedModel`, which implement `judge`. Satisfies `predict.detector.Detector`."""

    config: STLMConfig
    judging: Judging

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are resized to, all tiles together."""
        return self.config.network.frame_size

    @property
    def calibration(self) -> Calibration | None:
        """The threshold and where it comes from; None: not calibrated."""
        return self.judging.calibration

    @abstractmethod
    def judge(
        self, images: Sequence[np.ndarray], threshold: float | None = None, review_threshold: float | None = None
    ) -> list[Prediction]:
        """Predictions for decoded photographs, HxWx3 uint8 RGB each, in order; thresholds as of `predict`."""

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
            image_or_list: path, bytes, PIL image, HxW or HxWx3 array (uint8, uint16, float in [0, 1]), or a list of
                those.
            threshold: anomaly score in [0, 1] at or above which a photograph is anomalous; None is the calibrated one.
            review_threshold: score at or above which a photograph below `threshold` is worth a second look; None is the
                calibrated one.
            refine: whether Segment Anything outlines what is rejected, in some seconds each; score and verdict stay. It
                needs torch. None: as the calibration chose; if Segment Anything is not available, outlines stay the
                model's own, with a warning.

        Raises:
            ImageError: an input cannot be used as a photograph; nothing is predicted then.
            ConfigError: a threshold is out of range, or `refine` is True and torch is not installed.
            WeightsError: `refine` is True, and Segment Anything's weights cannot be obtained.
        """

        def judge(images: list[np.ndarray]) -> list[Prediction]:
            return all_outlined(self.judge(images, threshold, review_threshold), refine, self.judging.refine)

        return judge_given(judge, image_or_list, self.judging.bits)

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, one batch at a time in memory; files are decoded ahead of the network.

        Args:
            photographs: what `predict` takes, one by one.
            threshold, review_threshold, refine: as of `predict`.

        Yields:
            For each photograph, in order, its prediction, or an `Unusable` with the reason.
        """
        judged = judge_many(self.judge, photographs, self.judging, self.input_size, threshold, review_threshold)
        return outlined(judged, refine, self.judging.refine)
