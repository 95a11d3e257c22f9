"""An exported model as a detector: the same verdicts as `STLM`, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from ..errors import ConfigError
from ..models.stlm.area import reached
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from ..models.stlm.judging import CALIBRATION_NAME, Calibration, Judging
from ..models.stlm.scales import agreed, in_unit
from ..predict.frame import resize_image, to_frame
from ..predict.images import ImageInput
from ..predict.prediction import Prediction, Unusable
from ..predict.stream import batches
from ..predict.verdicts import Inferred, ScoredMap, judge_all, judge_many, judge_sources
from ..validate import expanded
from ..zero_shot.as_chosen import all_outlined, outlined
from .facts import ExportFacts, check_unchanged, is_export, load_facts
from .sessions import BACKENDS, Session, open_session


class ExportedModel:
    """What `stlm export` made. Satisfies `stlm_hub.predict.detector.Detector`.

    Args:
        facts: what is known of the export.
        config: what the model is made of.
        judging: how it judges; its scales and maps are part of the graph, its thresholds are not.
        session: runs the graph.

    Example:
        >>> model = stlm_hub.load("exported/mvtec-bottle")
        >>> model.predict("photo.jpg").backend
        'onnxruntime fp32'
    """

    def __init__(self, facts: ExportFacts, config: STLMConfig, judging: Judging, session: Session) -> None:
        self.facts = facts
        self.config = config
        self.judging = judging
        self._session = session

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], *, threads: int | None = None) -> ExportedModel:
        """Opens an export.

        Args:
            folder: that `stlm export` wrote.
            threads: that judge one batch; None: as many as the machine has cores.

        Raises:
            ConfigError: it is no export, a file was changed since, or its runtime is not installed.
        """
        place = expanded(folder)
        if not is_export(place):
            raise ConfigError(f"{place} is not an exported model; make one with: stlm export MODEL --output {place}")
        facts = load_facts(place)
        check_unchanged(place, facts)
        config, judging = STLMConfig.load(place / CONFIG_NAME), Judging.load(place / CALIBRATION_NAME)
        if facts.input_size != config.network.frame_size:
            raise ConfigError(f"{place} is of two models; export the model again with: stlm export")
        session = open_session(facts.format, place / facts.graph, facts.precision, threads)
        return cls(facts, config, judging, session)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.facts.name

    @property
    def backend(self) -> str:
        """What computes its maps, e.g. "onnxruntime fp32"."""
        return f"{BACKENDS[self.facts.format]} {self.facts.precision}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels that photographs are brought to."""
        return self.facts.input_size

    @property
    def calibration(self) -> Calibration | None:
        """The threshold and where it comes from; None: not calibrated."""
        return self.judging.calibration

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
        """Judges one photograph or a list of them, as `STLM.predict` does.

        Args:
            image_or_list: path, bytes, PIL image, array, or a list of those.
            threshold: in [0, 1]; None is the calibrated one.
            review_threshold: in [0, `threshold`]; None is the calibrated one.
            refine: see `STLM.predict`. Outlines by Segment Anything need torch; where it is not installed, those that
                the model chose stay coarse, with a warning.

        Raises:
            ImageError: an input cannot be used as a photograph; nothing is predicted then.
            ConfigError: a threshold is out of range, or `refine` is True and torch is not installed.
            WeightsError: `refine` is True, and Segment Anything's weights cannot be had.
        """
        several = isinstance(image_or_list, (list, tuple))
        sources: list[ImageInput] = list(image_or_list) if isinstance(image_or_list, (list, tuple)) else [image_or_list]
        found = judge_sources(self.judge, sources, self.judging.bits, threshold, review_threshold)
        found = all_outlined(found, refine, self.judging.refine)
        return found if several else found[0]

    def predict_many(
        self,
        photographs: Iterable[ImageInput],
        *,
        threshold: float | None = None,
        review_threshold: float | None = None,
        refine: bool | None = None,
    ) -> Iterator[Prediction | Unusable]:
        """Judges any number of photographs, one batch in memory, as `STLM.predict_many` does.

        Yields:
            For each photograph, in order, its prediction, or an `Unusable` with the reason.
        """
        judged = judge_many(self.judge, photographs, self.judging, self.input_size, threshold, review_threshold)
        return outlined(judged, refine, self.judging.refine)

    def judge(
        self, images: Sequence[np.ndarray], threshold: float | None = None, review_threshold: float | None = None
    ) -> list[Prediction]:
        """Predictions of decoded photographs, HxWx3 uint8 RGB each, in order; thresholds as of `predict`."""
        return judge_all(
            self.judging, images, self.infer(images), self.input_size, threshold, review_threshold, self.backend
        )

    def infer(self, images: Iterable[np.ndarray]) -> Iterator[Inferred]:
        """What the graph sees of each image, HxWx3 uint8 RGB, in order: the maps `judging.shown` and the distances."""
        return infer(self._session, self.judging, images, self.input_size)


def infer(
    session: Session, judging: Judging, images: Iterable[np.ndarray], size: tuple[int, int]
) -> Iterator[Inferred]:
    """What an opened graph sees of each image, HxWx3 uint8 RGB, in order; `size` is height and width of its input.

    Raises:
        ConfigError: the graph cannot be run, or is of another model.
    """
    for batch in batches(images, size):
        found = session(np.stack([resize_image(image, size) for image in batch]))
        n = len(judging.shown)
        shapes = [found.maps.shape, found.scores.shape, found.distances.shape]
        if shapes != [(len(batch), n, *size), (len(batch), n), (len(batch), 2)]:
            raise ConfigError("The graph does not fit its calibration.json; export the model again with: stlm export")
        scores = found.scores if found.limits is None else bounded_scores(judging, found.limits)
        for i, image in enumerate(batch):
            shape = (image.shape[0], image.shape[1])
            maps = {
                name: ScoredMap(to_frame(found.maps[i, m], shape), float(scores[i, m]))
                for m, name in enumerate(judging.shown)
            }
            yield Inferred(maps, tuple(found.distances[i].tolist()))


def bounded_scores(judging: Judging, limits: np.ndarray) -> np.ndarray:
    """Scores of `judging.shown` that connected regions of the minimum area reach, as `AnomalyMaps` has them.

    Args:
        judging: of a model with a minimum area.
        limits: BxKxHxW, the maps `judging.behind` in limits; -inf outside the region that counts.

    Returns:
        BxM in [0, 1].
    """
    flat = limits.reshape(*limits.shape[:2], -1)
    k = min(judging.score_top_k, flat.shape[2])
    highest = np.partition(flat, -k)[..., -k:]
    counts = ~np.isneginf(highest)  # a region may have fewer values; NaN stays, and is refused
    peaks = np.where(counts, highest, 0.0).sum(-1) / np.maximum(counts.sum(-1), 1)
    levels = [[reached(values, judging.minimum_area) for values in maps] for maps in limits]
    by_map = dict(zip(judging.behind, np.minimum(peaks, levels).T, strict=True))
    shown = [agreed({m: by_map[m] for m in judging.compared}) if n == "combined" else by_map[n] for n in judging.shown]
    return in_unit(np.stack(shown, axis=1))
