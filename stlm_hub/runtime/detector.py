"""An exported model as a detector: the same verdicts as `STLM`, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..errors import ConfigError
from ..model_folder.names import is_export
from ..models.stlm.area import reached
from ..models.stlm.config import CONFIG_NAME, STLMConfig
from ..models.stlm.judging import CALIBRATION_NAME, Judging
from ..models.stlm.scales import agreed, in_unit
from ..predict.frame import resize_image, to_frame
from ..predict.prediction import Prediction
from ..predict.stream import batches
from ..predict.verdicts import Inferred, ScoredMap, judge_all
from ..validate import expanded
from .facts import ExportFacts, check_unchanged, load_facts
from .judging_model import JudgingModel
from .sessions import BACKENDS, Session, open_session


class ExportedModel(JudgingModel):
    """A model that `stlm export` wrote. `predict` and `predict_many`: see `JudgingModel`.

    Args:
        facts: about the export.
        config: what the model is made of.
        judging: how it judges. Its scales and maps are part of the graph, its thresholds are not.
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
            ConfigError: it is no export, a file was changed since the export, or its runtime is not installed.
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
        """Runtime and precision, e.g. "onnxruntime fp32"."""
        return f"{BACKENDS[self.facts.format]} {self.facts.precision}"

    def judge(
        self, images: Sequence[np.ndarray], threshold: float | None = None, review_threshold: float | None = None
    ) -> list[Prediction]:
        """Predictions of decoded photographs, HxWx3 uint8 RGB each, in order; thresholds as of `predict`."""
        return judge_all(
            self.judging, images, self.infer(images), self.input_size, threshold, review_threshold, self.backend
        )

    def infer(self, images: Iterable[np.ndarray]) -> Iterator[Inferred]:
        """Yields maps `judging.shown` and distances of each image, HxWx3 uint8 RGB, in order."""
        return infer(self._session, self.judging, images, self.input_size)


def infer(
    session: Session, judging: Judging, images: Iterable[np.ndarray], size: tuple[int, int]
) -> Iterator[Inferred]:
    """Runs an opened graph on images, in batches.

    Args:
        session: that runs the graph.
        judging: of the exported model.
        images: HxWx3 uint8 RGB each, of any size.
        size: height and width of the graph's input.

    Yields:
        Maps `judging.shown` in the frame of each image, their scores, and its distances, in order.

    Raises:
        ConfigError: the graph cannot be run, or is of another model.
    """
    for batch in batches(images, size):
        outputs = session(np.stack([resize_image(image, size) for image in batch]))
        n = len(judging.shown)
        shapes = [outputs.maps.shape, outputs.scores.shape, outputs.distances.shape]
        if shapes != [(len(batch), n, *size), (len(batch), n), (len(batch), 2)]:
            raise ConfigError("The graph does not fit its calibration.json; export the model again with: stlm export")
        scores = outputs.scores if outputs.limits is None else bounded_scores(judging, outputs.limits)
        for i, image in enumerate(batch):
            shape = (image.shape[0], image.shape[1])
            maps = {
                name: ScoredMap(to_frame(outputs.maps[i, m], shape), float(scores[i, m]))
                for m, name in enumerate(judging.shown)
            }
            yield Inferred(maps, tuple(outputs.distances[i].tolist()))


def bounded_scores(judging: Judging, limits: np.ndarray) -> np.ndarray:
    """Scores of `judging.shown` with a minimum area, as `AnomalyMaps.bounded_by_area` computes them.

    Args:
        judging: of a model with a minimum area.
        limits: BxKxHxW, the maps `judging.behind` in limits; -inf outside the region that counts.

    Returns:
        BxM in [0, 1].
    """
    flat = limits.reshape(*limits.shape[:2], -1)
    k = min(judging.score_top_k, flat.shape[2])
    highest = np.partition(flat, -k)[..., -k:]
    counts = ~np.isneginf(highest)  # a region may have fewer values; NaN stays, and is refused later
    means = np.where(counts, highest, 0.0).sum(-1) / np.maximum(counts.sum(-1), 1)
    levels = [[reached(values, judging.minimum_area) for values in maps] for maps in limits]
    scores = dict(zip(judging.behind, np.minimum(means, levels).T, strict=True))
    if "combined" in judging.shown:
        scores["combined"] = agreed({name: scores[name] for name in judging.compared})
    return in_unit(np.stack([scores[name] for name in judging.shown], axis=1))
