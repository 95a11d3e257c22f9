"""ZeroShot: judges parts of which there are no good photographs to learn from. CLIP says where, SAM how far."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import overload

import numpy as np
from torch import Tensor

from ..models.device import usable_device
from ..models.stlm.judging import DEFAULT_THRESHOLD, Calibration, Judging
from ..predict.frame import to_frame
from ..predict.images import ImageInput
from ..predict.prediction import Prediction, Unusable, checked_review, checked_threshold
from ..predict.verdicts import judge_given, judge_many
from ..validate import expanded
from .clip_map import Seen, see, text_embeddings
from .clip_weights import Clip, load_clip
from .prompts import Prompts
from .refine import refined
from .segment import SegmentAnything

PARTS_KEPT = 16
"""Parts whose texts stay embedded: the ensembles take CLIP's text encoder some seconds."""


class ZeroShot:
    """CLIP-SAM with cascaded prompts (arXiv 2510.11028). Satisfies `stlm_hub.predict.detector.Detector`.

    Nothing is calibrated. A score of 0.5 means that words for good and for damaged parts fit equally well; how many
    good parts lie above it is not known. So at this default the verdict is "reject" or "review", never "pass"; at a
    threshold that you set it is "reject" or "pass".

    Args:
        clip: the model with weights.
        prompts: words for good and anomalous parts.
        sam: what outlines; None: with the weights that a training would start from, when first needed.

    Example:
        >>> model = ZeroShot.from_pretrained()
        >>> model.predict("photo.jpg", part="bottle").verdict
    """

    def __init__(self, clip: Clip, prompts: Prompts, sam: SegmentAnything | None = None) -> None:
        self.clip = clip
        self.prompts = prompts
        self.sam = sam
        self._text = lru_cache(PARTS_KEPT)(self._embed)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        prompts: str | os.PathLike[str] | None = None,
    ) -> ZeroShot:
        """Loads CLIP.

        Args:
            weights: "hf-hub:org/repo", a folder or a safetensors file in open_clip's form; None: what the environment
                variable STLM_CLIP_WEIGHTS names, else OpenAI's ViT-L/14 at 336 px from the Hub. See `load_clip`.
            device: where CLIP runs; None is "cuda" where there is one, else "cpu".
            prompts: a YAML file like `prompts.yaml`; None: that one.

        Raises:
            HubError: the weights are not here and cannot be downloaded; the message says how to get them.
            WeightsError: they are missing, a pickle, damaged, or of another architecture than they say.
            ConfigError: open_clip is not installed, or the prompts, the architecture or the device cannot be used.
        """
        place = usable_device(device)
        words = Prompts.load() if prompts is None else Prompts.load(expanded(prompts))
        clip = load_clip(weights)
        clip.model.to(place)
        return cls(clip, words)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"zero-shot {self.clip.name}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are brought to."""
        return self.clip.side, self.clip.side

    @property
    def calibration(self) -> Calibration | None:
        """None: not calibrated."""
        return None

    @overload
    def predict(
        self,
        image_or_list: ImageInput,
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        part: str | None = None,
        refine: bool | None = None,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        image_or_list: list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        part: str | None = None,
        refine: bool | None = None,
    ) -> list[Prediction]: ...
    def predict(
        self,
        image_or_list: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        part: str | None = None,
        refine: bool | None = None,
    ) -> Prediction | list[Prediction]:
        """Judges one photograph or a list of them (a list in, a list out, in order).

        Args:
            image_or_list: path, bytes, PIL image, array, or a list of those, as `STLM.predict` takes.
            threshold: anomaly score in [0, 1] at or above which a photograph is rejected; also where the map is
                outlined. None: 0.5, and what lies below is "review", for nothing vouches for it.
            review_threshold: score in [0, `threshold`] from which one below the threshold is worth a second look.
            part: its name in a few words, e.g. "bottle"; None: "object".
            refine: False: leave what CLIP outlines as coarse as it is. Anything else: outline with Segment Anything.

        Raises:
            ImageError: an input cannot be used as a photograph; nothing is predicted then.
            ConfigError: a threshold is out of range, or the part is not named in words.
            WeightsError: Segment Anything's weights cannot be had.
        """
        return judge_given(lambda images: self._judge(images, threshold, review_threshold, part, refine), image_or_list)

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        part: str | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, a few at a time in memory. Arguments and errors: see `predict`.

        Yields:
            For each photograph, in order, its prediction, or an `Unusable` with the reason.
        """
        self.text(part)  # a name that is none is refused before the first photograph is read

        def judge(images: list[np.ndarray], limit: float | None, review: float | None) -> list[Prediction]:
            return self._judge(images, limit, review, part, refine)

        return judge_many(judge, photographs, Judging(), self.input_size, threshold, review_threshold)

    def see(self, images: Sequence[np.ndarray], part: str | None = None) -> list[Seen]:
        """What CLIP alone sees of decoded photographs, HxWx3 uint8 RGB each, in order."""
        return see(self.clip, images, self.text(part))

    def text(self, part: str | None = None) -> Tensor:
        """2xC: the mean directions of both ensembles for a part.

        Raises:
            ConfigError: the part is not named in words, or in more than CLIP reads.
        """
        normal, anomalous = self.prompts.texts(part)
        return self._text(tuple(normal), tuple(anomalous))

    def _embed(self, normal: tuple[str, ...], anomalous: tuple[str, ...]) -> Tensor:
        return text_embeddings(self.clip, normal, anomalous)

    def _judge(
        self,
        images: list[np.ndarray],
        threshold: float | None,
        review_threshold: float | None,
        part: str | None,
        refine: bool | None,
    ) -> list[Prediction]:
        limit = DEFAULT_THRESHOLD if threshold is None else checked_threshold(threshold)
        review = checked_review(review_threshold, limit)
        if threshold is None and review is None:
            review = 0.0
        found = []
        for image, seen in zip(images, self.see(images, part), strict=True):
            anomaly_map = to_frame(seen.anomaly_map, (image.shape[0], image.shape[1]))
            prediction = Prediction(image, anomaly_map, seen.score, limit, review_threshold=review, calibrated=False)
            found.append(prediction if refine is False else refined(prediction, self.sam))
        return found
