"""One to five photographs of good parts in place of a training, as a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from ..errors import DataError
from ..models.backbones import BACKBONES
from ..models.device import usable_device
from ..models.stlm.judging import DEFAULT_THRESHOLD, Calibration, Judging
from ..models.stlm.scales import in_unit
from ..predict.frame import resize_image, to_frame
from ..predict.images import ImageInput, load_image
from ..predict.prediction import Prediction, Unusable, checked_review, checked_threshold
from ..predict.verdicts import judge_given, judge_many
from ..wording import number_of
from .reference_memory import FACTOR, ReferenceMemory
from .refine import refined

if TYPE_CHECKING:
    from .segment import SegmentAnything

MOST_REFERENCES = 5


class References:
    """Judges photographs by a few good ones. Satisfies `stlm_hub.predict.detector.Detector`.

    Nothing is calibrated. A score of 0.5 is the limit: as far as the farthest reference is from all others, and at
    least as far as a reference photographed again is. With a single one it is `FACTOR` times the latter.

    Args:
        photographs: one to five of different good parts, of any sizes; all are squeezed to one frame.
        backbones: names of `BACKBONES`; the mean of their distances counts.
        load: whether their pretrained weights are set; tests do without.
        device: where they run; None is "cuda" where there is one, else "cpu".
        sam: what outlines; None: with the weights that a training would start from, when first needed.
        on_image: called with (done, total) after each copy of a reference.

    Raises:
        DataError: there are none or more than five, two are the same photograph, or one shows nothing.
        ImageError: one cannot be used as a photograph.
        WeightsError: the weights of a backbone cannot be had.
        ConfigError: the device cannot be used.

    Example:
        >>> References(["good1.jpg", "good2.jpg"]).predict("part.jpg").verdict
    """

    def __init__(
        self,
        photographs: Sequence[ImageInput],
        *,
        backbones: Sequence[str] = tuple(BACKBONES),
        load: bool = True,
        device: str | torch.device | None = None,
        sam: SegmentAnything | None = None,
        on_image: Callable[[int, int], None] | None = None,
    ) -> None:
        check_number(len(photographs))
        images = [load_image(photograph) for photograph in photographs]
        _check_different(images)
        self.sam = sam
        self._memory = ReferenceMemory(
            images, backbones=backbones, load=load, device=usable_device(device), on_image=on_image
        )

    @property
    def name(self) -> str:
        """What people call it."""
        return number_of(len(self._memory), "reference")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are brought to."""
        return self._memory.frame_size

    @property
    def calibration(self) -> Calibration | None:
        """None: a few photographs certify no rate."""
        return None

    @property
    def limit_is(self) -> str:
        """What the limit of the score is made of, a sentence for people."""
        if len(self._memory) == 1:
            return (
                f"The limit is {FACTOR:g} times as far as the reference is from itself photographed again, a factor "
                "that is chosen and not measured; how many good parts are rejected is not known."
            )
        return (
            f"The limit is as far as any of the {len(self._memory)} references is from the others; how many good parts "
            "are rejected is not known."
        )

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

        One that is a reference itself is judged by the others, if there are any.

        Args:
            image_or_list: path, bytes, PIL image, array, or a list of those, as `STLM.predict` takes.
            threshold: anomaly score in [0, 1] at or above which a photograph is rejected; None: 0.5, the limit.
            review_threshold: score in [0, `threshold`] from which one below the threshold is worth a second look.
            refine: False: leave outlines as coarse as the map. Anything else: outline with Segment Anything.

        Raises:
            ImageError: an input cannot be used as a photograph; nothing is predicted then.
            ConfigError: a threshold is out of range.
            WeightsError: Segment Anything's weights cannot be had.
        """
        return judge_given(lambda images: self._judge(images, threshold, review_threshold, refine), image_or_list)

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, a few at a time in memory. Arguments and errors: see `predict`.

        Yields:
            For each photograph, in order, its prediction, or an `Unusable` with the reason.
        """

        def judge(images: list[np.ndarray], limit: float | None, review: float | None) -> list[Prediction]:
            return self._judge(images, limit, review, refine)

        return judge_many(judge, photographs, Judging(), self.input_size, threshold, review_threshold)

    def _judge(
        self, images: Sequence[np.ndarray], threshold: float | None, review_threshold: float | None, refine: bool | None
    ) -> list[Prediction]:
        limit = DEFAULT_THRESHOLD if threshold is None else checked_threshold(threshold)
        review = checked_review(review_threshold, limit)
        found = []
        for image in images:
            framed = resize_image(image, self._memory.frame_size)
            far, highest = self._memory.limits(self._memory.see(framed), self._memory.number_of(framed))
            prediction = Prediction(
                image,
                to_frame(in_unit(far)[0, 0].cpu().numpy(), (image.shape[0], image.shape[1])),
                float(in_unit(highest)),
                limit,
                review_threshold=review,
                calibrated=False,
            )
            found.append(prediction if refine is False else refined(prediction, self.sam))
        return found


def check_number(references: int) -> None:
    """Raises DataError where there are none or more than `MOST_REFERENCES`."""
    if not 1 <= references <= MOST_REFERENCES:
        raise DataError(
            f"There are {references} reference photographs; give one to {MOST_REFERENCES}. To use more, train a model "
            "on them with: stlm finetune"
        )


def _check_different(images: Sequence[np.ndarray]) -> None:
    """Raises DataError where a reference shows nothing, or says the same as one before."""
    for i, image in enumerate(images):
        if (image == image[0, 0]).all():
            raise DataError(f"Reference {i + 1} shows one single colour; give a photograph of a good part.")
        for j, other in enumerate(images[:i]):
            if np.array_equal(image, other):
                raise DataError(
                    f"References {j + 1} and {i + 1} are the same photograph; give each of another good part, or one."
                )
