"""Feedback from the line: "this was good" (`accept`) and "this is a defect" (`reject`). Neither trains the streams.

An accepted photograph is added to the memory and to the scores behind the threshold, in seconds. A rejected one is kept
and judged again at every new threshold; nothing learns from it. Each of both is one step that `undo` takes back.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch

from ..calibration.calibrate import score_photographs
from ..calibration.normals import Normal, measure
from ..calibration.threshold import choose_threshold
from ..errors import ConfigError, DataError
from ..model_folder import hub, versions
from ..model_folder.folder import write_config
from ..model_folder.names import FAMILIARITY_NAME, MEMORY_NAME, PLOTS
from ..model_folder.provenance import Command
from ..model_folder.results import Results
from ..model_folder.weights_file import write_weights
from ..model_folder.write import file_facts, write_results
from ..model_folder.zoo import check_own
from ..models.patch_memory import PatchMemory
from ..models.stlm.judging import Judging
from ..predict.images import list_images, load_image
from ..predict.photographs import pixels_sha256
from ..pseudo_anomalies.nuisance import Nuisance
from ..stlm import STLM
from ..validate import expanded
from .grow_memory import grown
from .recalibrate import is_remembered

FAR = 4 / 3
"""Distance in limits above which a photograph is accepted only with `unfamiliar`: twice that of the farthest good one
in the calibration. With the zoo's models, other things lie at 1.4 to 4.6, the part in other light below 1."""


@dataclass(frozen=True)
class Changed:
    """What `accept` changed.

    Args:
        before, after: thresholds in [0, 1].
        taken: photographs that were accepted.
        scores: of these, by the model before.
        left_out: a sentence on each of the others.
        known_defects: (name, score by the model now) of the photographs that were rejected earlier.
    """

    before: float
    after: float
    taken: list[Path]
    scores: list[float]
    left_out: list[str]
    known_defects: list[tuple[str, float]]


@dataclass(frozen=True)
class TakenBack:
    """What `undo` took back, and what holds now.

    Args:
        rejected: names of the photographs of a `reject`, which are no known defects any more; none: it was an `accept`.
        threshold: in [0, 1].
        known_defects: (name, score) of the photographs that are still rejected.
    """

    rejected: list[str]
    threshold: float
    known_defects: list[tuple[str, float]]


def accept(
    folder: Path,
    photographs: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    unfamiliar: bool = False,
) -> Changed:
    """Adds photographs of good parts to the memory and the threshold of a model. Each counts once.

    Nothing is changed if an error is raised.

    Args:
        folder: of a model with a memory. Its earlier version is kept, see `model_folder.versions`.
        photographs: of good parts.
        on_image: called with (done, total) after each photograph.
        unfamiliar: whether they may be unlike all good photographs that the model knows, see `FAR`.

    Raises:
        ConfigError: `folder` is no folder, or the model has no memory or was never calibrated.
        DataError: all photographs are in the memory already, or one is not of the part.
        ImageError: a photograph cannot be used.
    """
    try:
        from ..evaluation import plots  # noqa: F401  # before any work is done
    except ImportError as error:
        raise ConfigError(
            f'The plot of the scores is drawn anew, which needs {error.name}: pip install "stlm_hub[train]"'
        ) from None
    folder, photographs = expanded(folder), [expanded(path) for path in photographs]
    since = versions.stamp(folder)
    model, results = _load(folder)
    memory, before = model.patch_memory, model.judging
    if memory is None:
        raise ConfigError(
            f"{folder} has no memory that could take a photograph in; calibrate it with: stlm calibrate, or train it "
            "with memory entries."
        )
    if before.calibration is None:
        raise ConfigError(f"{folder} was never calibrated; do that first with: stlm calibrate")
    taken, left_out = _unknown(model, photographs)
    if not taken:
        raise DataError(f"{' '.join(left_out)} Nothing is changed.")
    nuisance = Nuisance.from_dict(results.nuisance) if results and results.nuisance else Nuisance()
    measured = measure(model, [Normal(path) for path in taken], nuisance, 0, on_image, probes=False)
    scored = score_photographs(model, measured)
    if not unfamiliar:
        _check_the_part(before, taken, scored.distances)
    larger = grown(model, memory, taken, nuisance)
    judging = _judged_anew(before, scored.good, scored.disturbed)
    judging = judging.replace(familiarity_limits=_widened(before.familiarity_limits, scored.distances))
    versions.change(folder, lambda new: _write(new, folder, model, larger, judging, results, len(taken)), since=since)
    return Changed(before.threshold, judging.threshold, taken, list(scored.good), left_out, known_defects(folder))


def reject(folder: Path, photographs: Sequence[Path]) -> list[tuple[str, float]]:
    """Keeps photographs as known defects beside a model, all of them or none. The model learns nothing from them.

    Returns:
        (name, score) of all known defects.

    Raises:
        ConfigError: `folder` is no model's folder, or nothing can be written beside it.
        ImageError: a photograph cannot be used.
    """
    folder, photographs = expanded(folder), [expanded(path) for path in photographs]
    model, _ = _load(folder)
    for path in photographs:
        load_image(path, bits=model.judging.bits)

    def copy(new: Path) -> None:
        names = {path.name for kept in versions.added(folder) for path in kept.iterdir()}
        for path in photographs:
            others = (f"{number}_{path.name}" for number in count(2))
            name = next(name for name in chain([path.name], others) if name not in names)
            shutil.copyfile(path, new / name)
            names.add(name)

    versions.add(folder, copy)
    return known_defects(folder)


def undo(folder: Path) -> TakenBack:
    """Takes the last `accept` or `reject` back, whichever came later.

    Raises:
        ConfigError: there is nothing to take back.
    """
    folder = expanded(folder)
    _load(folder)
    rejected = versions.undo(folder)
    return TakenBack(rejected, STLM.from_pretrained(folder).judging.threshold, known_defects(folder))


def known_defects(folder: Path, by: Path | None = None) -> list[tuple[str, float]]:
    """(name, score) of all rejected photographs, by the model as it is now; `by`: by the model of another folder."""
    folder = expanded(folder)
    photographs = [path for kept in versions.added(folder) for path in list_images(kept)]
    if not photographs:
        return []
    model = STLM.from_pretrained(folder if by is None else by)
    return [(path.name, model.predict(path, refine=False).score) for path in photographs]


def _unknown(model: STLM, photographs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Photographs that are not in the memory yet, each frame once, and a sentence on each of the others."""
    taken: dict[str, Path] = {}  # SHA-256 of the pixels -> photograph
    left_out = []
    for path in photographs:
        digest = pixels_sha256(load_image(path, bits=model.judging.bits))
        if digest in taken:
            left_out.append(f"{path.name} is the same frame as {taken[digest].name} and counts once.")
        elif is_remembered(model, path):
            left_out.append(f"{path.name} is in the memory of the model already and does not count again.")
        else:
            taken[digest] = path
    return list(taken.values()), left_out


def _check_the_part(judging: Judging, photographs: Sequence[Path], distances: np.ndarray) -> None:
    """Refuses photographs farther than `FAR` from good ones: with them, anything would become familiar.

    Args:
        judging: with the familiarity limits.
        photographs: N paths.
        distances: Nx2, see `Familiarity`.

    Raises:
        DataError: a photograph is too far.
    """
    if not judging.familiarity_limits:
        return
    for path, far in zip(photographs, (distances / np.array(judging.familiarity_limits)).max(1), strict=True):
        if far > FAR:
            raise DataError(
                f"{path.name} does not look like the part: it is {far:.1f} times as far from good photographs as is "
                "familiar. Nothing is changed; if it shows the part after all, say so with --unfamiliar."
            )


def _widened(limits: tuple[float, ...], distances: np.ndarray) -> tuple[float, ...]:
    """Familiarity limits, raised where needed above the Nx2 distances of accepted photographs."""
    if not limits:
        return ()
    return tuple(max(limit, 1.05 * float(far.max())) for limit, far in zip(limits, distances.T, strict=True))


def _load(folder: Path) -> tuple[STLM, Results | None]:
    """A model in PyTorch and its results, if it has any. Raises ConfigError if there is no such folder."""
    check_own(folder)
    return STLM.from_pretrained(folder, backend="torch"), hub.results_of(hub.resolve(folder))


def _judged_anew(before: Judging, good: Sequence[float], disturbed: Sequence[float]) -> Judging:
    """Judging with thresholds from the scores before and the new ones. The larger memory can only lower old scores."""
    assert before.calibration is not None
    normal, copies = (*before.normal_scores, *good), (*before.disturbed_scores, *disturbed)
    calibration = choose_threshold(
        normal,
        before.calibration.false_alarm_rate,
        disturbed=copies,
        probes=before.probe_scores,
        careful=before.careful,
    )
    # The gain of outlines was measured at the old threshold.
    return before.replace(calibration=calibration, refine_gain=None, normal_scores=normal, disturbed_scores=copies)


def _write(
    new: Path, folder: Path, model: STLM, memory: PatchMemory, judging: Judging, results: Results | None, n: int
) -> None:
    """Writes the files that `accept` changes to the folder `new`, after `n` photographs were added."""
    from ..evaluation.plots import plot_score_histogram  # `reject` and `undo` draw nothing

    write_weights(new / MEMORY_NAME, memory.state_dict(), torch.float16)
    write_weights(new / FAMILIARITY_NAME, model.familiarity.state_dict())
    write_config(new, model.config.replace(patch_memory=memory.config))
    for name in PLOTS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, new / name)
    plot_score_histogram(new / "scores.png", judging)
    known = results or Results()
    source, before = known.provenance, known.dataset.remembered
    changed = dataclasses.replace(
        known,
        # Scores of test photographs, and figures at the old threshold, are no longer true.
        maps={name: dataclasses.replace(figures, fnr=None) for name, figures in known.maps.items()},
        test_scores=None,
        dataset=dataclasses.replace(known.dataset, remembered=None if before is None else before + n),
        files=known.files | file_facts(new),
        provenance=dataclasses.replace(
            source,
            commands=(*source.commands, Command("stlm accept", ("PHOTO",) * n, {"model": source.alias or "MODEL"})),
        ),
    )
    write_results(new, changed, judging, source.repo_id or folder.name)
