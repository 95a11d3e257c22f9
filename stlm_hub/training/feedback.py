"""What people on the line know: "this was good" and "this is a defect". Neither trains the streams.

A photograph that is accepted is taken into the memory and into the threshold, in seconds. One that is rejected is kept
and judged again at every new threshold, and nothing learns from it.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..calibration.calibrate import score_photographs
from ..calibration.normals import Normal, look
from ..calibration.threshold import choose_threshold
from ..errors import ConfigError, DataError
from ..model_folder import hub, versions
from ..model_folder.folder import write_config
from ..model_folder.names import FAMILIARITY_NAME, MEMORY_NAME, PLOTS
from ..model_folder.provenance import Command
from ..model_folder.results import Results
from ..model_folder.weights_file import write_weights
from ..model_folder.write import file_facts, write_results
from ..models.patch_memory import PatchMemory, nearest_distances
from ..models.stlm.judging import Judging
from ..predict.frame import to_input
from ..predict.images import list_images, load_image
from ..predict.photographs import pixels_sha256
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again
from ..stlm import STLM
from ..validate import expanded
from .recalibrate import KNOWN, is_remembered

FAR = 4 / 3
"""Distance in limits above which no photograph is accepted unasked: twice as far as the farthest good one of the
calibration. Pictures of anything else lie at 1.4 to 4.6 with the models of the zoo, other light on the part below 1."""
NEW_ENTRIES = 256
"""Patches of one photograph that are remembered at most, those farthest from what is known."""


@dataclass(frozen=True)
class Changed:
    """What a change did.

    Args:
        before, after: thresholds.
        taken: the photographs that were taken in.
        scores: of these, before they were taken in.
        left_out: a sentence on each of the others.
        known_defects: (name, score now) of the photographs that were rejected earlier.
    """

    before: float
    after: float
    taken: list[Path]
    scores: list[float]
    left_out: list[str]
    known_defects: list[tuple[str, float]]


def accept(
    folder: Path,
    photographs: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    unfamiliar: bool = False,
) -> Changed:
    """Takes photographs of good parts into the memory and the threshold of a model. Each counts once.

    Args:
        folder: of a model with a memory. Its earlier version is kept, see `model_folder.versions`.
        photographs: of good parts.
        on_image: called with (done, total) after each photograph.
        unfamiliar: whether they may be far from all good ones that the model knows.

    Raises:
        ConfigError: `folder` is no folder, or the model has no memory or was never calibrated.
        DataError: all of the photographs are known already, or one is of something else than the part.
        ImageError: a photograph cannot be used.

    Nothing is changed where an error is raised.
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
    measured = look(model, [Normal(path) for path in taken], nuisance, 0, on_image, probes=False)
    found = score_photographs(model, measured)
    if not unfamiliar:
        _check_the_part(before, taken, found.distances)
    grown = _grown(model, memory, taken, nuisance)
    judging = _judged_anew(before, found.good, found.disturbed).replace(
        familiarity_limits=tuple(
            max(limit, 1.05 * float(distances.max()))
            for limit, distances in zip(before.familiarity_limits, found.distances.T, strict=True)
        )
        if before.familiarity_limits
        else ()
    )
    versions.change(folder, lambda new: _write(new, folder, model, grown, judging, results, len(taken)), since=since)
    return Changed(before.threshold, judging.threshold, taken, list(found.good), left_out, known_defects(folder))


def reject(folder: Path, photographs: Sequence[Path]) -> list[tuple[str, float]]:
    """Keeps photographs as known defects beside a model, which learns nothing of them.

    Returns:
        (name, score) of all known defects.

    Raises:
        ConfigError: `folder` is no model's folder.
        ImageError: a photograph cannot be used; none is kept then.
    """
    folder, photographs = expanded(folder), [expanded(path) for path in photographs]
    model, _ = _load(folder)
    for path in photographs:
        load_image(path, bits=model.judging.bits)
    kept = _rejected(folder)
    kept.mkdir(parents=True, exist_ok=True)
    for path in photographs:
        name = path.name if not (kept / path.name).exists() else f"{len(list(kept.iterdir()))}_{path.name}"
        shutil.copyfile(path, kept / name)
    return known_defects(folder)


def undo(folder: Path) -> tuple[float, list[tuple[str, float]]]:
    """Takes the last change back; returns the threshold and the known defects with their scores.

    Raises:
        ConfigError: there is nothing to take back.
    """
    folder = expanded(folder)
    _load(folder)
    versions.undo(folder)
    return STLM.from_pretrained(folder).judging.threshold, known_defects(folder)


def known_defects(folder: Path) -> list[tuple[str, float]]:
    """Names and scores of the photographs that were rejected, by the model as it is now."""
    folder = expanded(folder)
    kept = _rejected(folder)
    if not kept.is_dir():
        return []
    model = STLM.from_pretrained(folder)
    return [(path.name, model.predict(path, refine=False).score) for path in list_images(kept)]


def _unknown(model: STLM, photographs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Photographs that the model does not know yet, and a sentence on each of the others."""
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
    """Refuses what is farther from good photographs than `FAR` limits: it would make anything familiar.

    Raises:
        DataError: a photograph is.
    """
    if not judging.familiarity_limits:
        return
    for path, far in zip(photographs, (distances / np.array(judging.familiarity_limits)).max(1), strict=True):
        if far > FAR:
            raise DataError(
                f"{path.name} does not look like the part: it is {far:.1f} times as far from good photographs as is "
                "familiar. Nothing is changed; if it shows the part after all, say so with --unfamiliar."
            )


def _rejected(folder: Path) -> Path:
    return versions.history_of(folder) / "rejected"


def _load(folder: Path) -> tuple[STLM, Results | None]:
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder}; name the folder of a model of your own. One of the zoo is copied into a "
            "folder with: stlm calibrate"
        )
    return STLM.from_pretrained(folder, backend="torch"), hub.results_of(hub.resolve(folder))


@torch.inference_mode()
def _grown(model: STLM, memory: PatchMemory, photographs: Sequence[Path], nuisance: Nuisance) -> PatchMemory:
    """A memory with what is new in these photographs and in a disturbed copy of each."""
    rng = np.random.default_rng(len(memory.entries))
    scale = model.judging.scale("memory")
    near = scale.typical if scale else 0.0
    entries, sources = memory.entries, memory.sources
    for path in photographs:
        image = load_image(path, bits=model.judging.bits)
        images = [image, photographed_again(image, rng, nuisance)]
        patches = model.patches(to_input(images, model.frame_size, entries.device)).flatten(0, 2)
        reduced = memory.reduced(patches)
        distances = nearest_distances(reduced, entries)
        added: list[torch.Tensor] = []
        while len(added) < NEW_ENTRIES and float(distances.max()) > near:
            farthest = reduced[distances.argmax()]
            added.append(farthest)
            distances = torch.minimum(distances, (reduced - farthest).norm(dim=1))
        own = distances[: len(reduced) // 2]
        if float(own.min()) >= KNOWN * near:  # so that the photograph is known when it comes again
            added.append(reduced[own.argmax()])
        if added:
            number = int(sources.max()) + 1
            entries = torch.cat([entries, torch.stack(added)])
            sources = torch.cat([sources, sources.new_full((len(added),), number)])
    grown = PatchMemory(dataclasses.replace(memory.config, entries=len(entries))).to(entries.device)
    grown.load_state_dict(memory.state_dict() | {"entries": entries, "sources": sources})
    return grown.eval()


def _judged_anew(before: Judging, good: Sequence[float], disturbed: Sequence[float]) -> Judging:
    """Thresholds from the scores that are known and these. A larger memory lowers the known ones, if at all."""
    assert before.calibration is not None
    normal, copies = (*before.normal_scores, *good), (*before.disturbed_scores, *disturbed)
    calibration = choose_threshold(
        normal,
        before.calibration.false_alarm_rate,
        disturbed=copies,
        probes=before.probe_scores,
        careful=before.careful,
    )
    # What outlines gain was measured at the threshold before.
    return before.replace(calibration=calibration, refine_gain=None, normal_scores=normal, disturbed_scores=copies)


def _write(
    new: Path, folder: Path, model: STLM, memory: PatchMemory, judging: Judging, results: Results | None, n: int
) -> None:
    """The files that change: memory, familiarity's limits, thresholds, and what is known of the model."""
    from ..evaluation.plots import plot_score_histogram  # `reject` and `undo` draw nothing

    write_weights(new / MEMORY_NAME, memory.state_dict(), torch.float16)
    write_weights(new / FAMILIARITY_NAME, model.familiarity.state_dict())
    write_config(new, model.config.replace(patch_memory=memory.config))
    for name in PLOTS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, new / name)
    plot_score_histogram(new / "scores.png", judging)
    known = results or Results()
    source = known.provenance
    changed = dataclasses.replace(
        known,
        # Figures and scores of test photographs are of the model before.
        maps={name: dataclasses.replace(figures, fnr=None) for name, figures in known.maps.items()},
        test_scores=None,
        files=known.files | file_facts(new),
        provenance=dataclasses.replace(
            source,
            commands=(*source.commands, Command("stlm accept", ("PHOTO",) * n, {"model": source.alias or "MODEL"})),
        ),
    )
    write_results(new, changed, judging, source.repo_id or folder.name)
