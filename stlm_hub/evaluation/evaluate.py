"""A test set -> figures of every map that the model has, through the same predictor that users call."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np

from ..errors import DataError
from ..model_folder.figures import MapFigures
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..predict.images import Picture, read_picture
from ..predict.prediction import Unusable
from ..predict.predictor import infer
from ..predict.stream import batch_size, predict_many
from ..predict.verdicts import Inferred
from ..wording import number_of
from .masks import mask_note, read_mask, turn_note
from .metrics import compute_metrics, pro_points, roc_points


@dataclass(frozen=True)
class TestSet:
    """Photographs to evaluate on. They choose nothing: neither steps nor threshold.

    Args:
        good: normal photographs.
        anomalous: photographs with a defect.
        masks: for each anomalous photograph its mask file, non-zero where the defect is; none: only whole photographs
            are compared.
    """

    __test__ = False  # its name looks like a test case's to pytest

    good: list[Path]
    anomalous: list[Path]
    masks: list[Path]

    @property
    def photographs(self) -> list[Path]:
        return self.good + self.anomalous


def check_both_kinds(test: TestSet, where: Path | str) -> None:
    """Raises DataError where good or anomalous photographs are missing, without which figures say nothing."""
    for kind, photographs in (("good", test.good), ("anomalous", test.anomalous)):
        if not photographs:
            raise DataError(
                f"{where} holds no {kind} test photographs; figures need both kinds, in MVTec AD's layout "
                "in test/good and test/<kind of defect>."
            )


@dataclass(frozen=True)
class Evaluation:
    """Figures of one test set by the name of the map. Scores and `maps` are of the map that the model judges by.

    `notes` are sentences on masks that look wrong and on photographs that may not be what was meant; `bits` is what
    photographs of 16 bits were read with.
    """

    figures: dict[str, MapFigures]
    good_scores: list[float]
    anomalous_scores: list[float]
    seconds: float
    scores: list[float] = field(repr=False)
    labels: list[int] = field(repr=False)
    maps: list[np.ndarray] = field(repr=False)
    masks: list[np.ndarray] = field(repr=False)
    has_masks: bool = True
    notes: list[str] = field(default_factory=list)
    bits: int | None = None


def evaluate(
    model: AnomalyMaps,
    test: TestSet,
    thresholds: Mapping[str, float],
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """
    Args:
        model: what is evaluated.
        test: photographs and masks; maps are compared with masks in the frame of the photograph.
        thresholds: by the name of the map; they decide the false-negative rate only, which a map without one lacks.
        on_image: called with (done, total) after each photograph.

    Raises:
        DataError: a mask does not fit its photograph, a photograph of either kind is missing, or the disk is full.
        ImageError: a photograph cannot be read.
    """
    check_both_kinds(test, "The test set")
    if test.masks and len(test.masks) != len(test.anomalous):
        defects = number_of(len(test.anomalous), "defective photograph")
        raise DataError(f"For {defects} there are {number_of(len(test.masks), 'mask')}.")
    started = time.monotonic()
    which, judging = model.available, model.judging.judge_by
    labels = [0] * len(test.good) + [1] * len(test.anomalous)
    masks: list[np.ndarray] = []
    chosen: list[np.ndarray] = []
    scores_of: dict[str, list[float]] = {name: [] for name in which}
    figures = {}
    notes: list[str] = []
    # Maps have the size of their photographs. Those that nobody looks at later need not be held in memory until then.
    with (
        _room_for_maps(),
        TemporaryDirectory(prefix="stlm-maps-", ignore_cleanup_errors=True) as folder,
        ExitStack() as files,
    ):
        others = {name: files.enter_context((Path(folder) / name).open("wb")) for name in which if name != judging}
        for inferred in _judged(model, test, which, notes):
            maps = inferred.maps
            shape = (maps[judging].anomaly_map.shape[0], maps[judging].anomaly_map.shape[1])
            masks.append(_true_mask(test, len(masks), shape, notes))
            for name, scored in maps.items():
                scores_of[name].append(scored.score)
                if name == judging:
                    chosen.append(scored.anomaly_map)
                else:
                    others[name].write(scored.anomaly_map.astype(np.float32, copy=False).tobytes())
            if on_image:
                on_image(len(masks), len(labels))
        seconds = time.monotonic() - started
        files.close()
        for name in which:
            found = chosen if name == judging else _read_maps(Path(folder) / name, masks)
            threshold = thresholds.get(name)
            truth = masks if test.masks else None
            figures[name] = compute_metrics(scores_of[name], labels, found, truth, threshold=threshold)
            del found
    scores = scores_of[judging]
    return Evaluation(
        figures=figures,
        good_scores=scores[: len(test.good)],
        anomalous_scores=scores[len(test.good) :],
        seconds=seconds,
        scores=scores,
        labels=labels,
        maps=chosen,
        masks=masks,
        has_masks=bool(test.masks),
        notes=notes,
        bits=model.judging.bits,
    )


def _judged(model: AnomalyMaps, test: TestSet, which: tuple[str, ...], notes: list[str]) -> Iterator[Inferred]:
    """Maps of the test photographs, in order; the first that cannot be read ends it. `notes` gets those on them."""

    def read(path: Path) -> Picture:
        picture = read_picture(path, bits=model.judging.bits)
        notes.extend(picture.notes)
        return picture

    judge = functools.partial(_infer, model, which)
    sources = [functools.partial(read, path) for path in test.photographs]
    for inferred in predict_many(judge, sources, batch=batch_size(model.frame_size)):
        if isinstance(inferred, Unusable):
            raise inferred.error
        yield inferred


def _infer(model: AnomalyMaps, which: tuple[str, ...], images: list[np.ndarray]) -> list[Inferred]:
    return list(infer(model, images, which))


def _true_mask(test: TestSet, index: int, shape: tuple[int, int], notes: list[str]) -> np.ndarray:
    """HxW bool: where the photograph of this number is anomalous; `notes` gets what looks wrong of its mask."""
    if index < len(test.good) or not test.masks:
        return np.zeros(shape, bool)
    path, photograph = test.masks[index - len(test.good)], test.photographs[index]
    marked = read_mask(path, shape, photograph)
    notes += filter(None, [mask_note(path, marked), turn_note(path, photograph)])
    return marked


@contextmanager
def _room_for_maps() -> Iterator[None]:
    """A full disk as a sentence, wherever it shows: at a write, or when what is buffered is written out."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"The maps of the test photographs do not fit into {gettempdir()} ({error.strerror}); make room there, or "
            "set TMPDIR to a folder with more."
        ) from error


def _read_maps(path: Path, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps that were written one after the other, each of the shape of its mask; their pixels stay on disk."""
    pixels = np.memmap(path, np.float32, mode="r")
    ends = np.cumsum([mask.size for mask in like])
    return [pixels[end - mask.size : end].reshape(mask.shape) for end, mask in zip(ends, like, strict=True)]


def curves(evaluation: Evaluation) -> dict[str, dict[str, tuple[float, ...]]]:
    """ "image_roc" and, where there are masks, "pixel_roc" and "pro", as `plots.plot_curves` draws them."""
    found = {"image_roc": roc_points(np.asarray(evaluation.scores), np.asarray(evaluation.labels))}
    if evaluation.has_masks:
        pixels = np.concatenate([m.ravel() for m in evaluation.maps])
        truth = np.concatenate([m.ravel() for m in evaluation.masks])
        found |= {"pixel_roc": roc_points(pixels, truth), "pro": pro_points(evaluation.maps, evaluation.masks)}
    return {name: {axis: tuple(points) for axis, points in curve.items()} for name, curve in found.items()}
