"""Adapts a model to another camera, light or batch of parts: the network stays, thresholds and scales are new.

The same makes a model judge by another of its maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..calibration.calibrate import calibrate
from ..calibration.normals import Normal, choose_photographs
from ..calibration.outlines import check_refine, chosen_outlines
from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE, check_false_alarm_rate, check_held_out
from ..errors import DataError
from ..files.fingerprint import fingerprint
from ..model_folder import results as facts
from ..model_folder.fields import MapName, Value
from ..model_folder.figures import MapFigures
from ..model_folder.folder import check_output, make_parent, making, move_folder
from ..model_folder.provenance import CalibrationFacts, Circumstances, Command, Photographs
from ..model_folder.results import Results
from ..model_folder.write import file_facts, write_results
from ..models.stlm.judging import Judging, check_judging
from ..models.stlm.scales import ANOMALY_MAPS
from ..predict.images import read_picture
from ..predict.predictor import input_of
from ..predict.region_mask import area_on_frame, on_frame
from ..pseudo_anomalies.nuisance import Nuisance
from ..stlm import STLM
from ..validate import expanded
from .fill_memory import patches_to_remember

KNOWN = 0.05
"""A patch this near to an entry of the memory, as a share of the typical distance, is the same patch."""


def recalibrate(
    model: STLM,
    photographs: Sequence[Path],
    output: Path,
    *,
    repo_id: str,
    results: Results | None = None,
    false_alarm_rate: float | None = None,
    careful: bool | None = None,
    anomaly_map: str | None = None,
    draw_by: str | None = None,
    looked_at: np.ndarray | None = None,
    named: Collection[str] = ("region",),
    minimum_area: float | None = None,
    bits: int | None = None,
    refine: str | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> STLM:
    """Writes a model folder with the network of `model` and a threshold from a user's own good photographs.

    Scores are those of the float16 weights in the folder. Neither `model` nor `results` is changed. The folder appears
    when everything is measured: an exception raised by `on_image` leaves nothing behind.

    Args:
        model: on the device to compute on.
        photographs: of good parts, at least 4 different ones that the model was not trained on.
        output: receives the model folder, weights in float16.
        repo_id: `org/repo` that the card shows.
        results: what results.json of `model` says; without it the new one holds only what is known here.
        false_alarm_rate: share of good parts that may be judged anomalous, in (0, 0.5]; None: as it was.
        careful: whether the threshold stays above all photographs; None: as it was.
        anomaly_map: that judges from now on, one of `ANOMALY_MAPS`; None: as it was. All maps get new scales:
            if another light lifts one map as a whole, it would dominate the others on its old scale.
        draw_by: map that is shown and outlined from now on; None: as it was.
        looked_at: HxW bool of a photograph, the part that counts from now on; None: as it was.
        named: options whose pictures `looked_at` was made from: "region", "ignore".
        minimum_area: pixels of a photograph; a smaller connected region is no defect. None: as it was.
        bits: that photographs of 16 bits use from now on; None: as it was.
        refine: whether Segment Anything outlines what is rejected from now on, "auto", "on" or "off", see
            `outlines.chosen_outlines`; None: as it was.
        on_image: called with (done, total) after each photograph, and after each pseudo anomaly of "auto".

    Returns:
        The model of the new folder. `recalibration` in its results.json says that the threshold is not the training's,
        and what it was before. Scores and curves of test photographs and each `fnr` are dropped: they are on other
        scales.

    Raises:
        DataError: fewer than 4 photographs, or the false-alarm rate is out of range.
        ImageError: a photograph cannot be used.
        ConfigError: `results` are not of `model`, `output` holds something else or cannot be written, or the model has
            no such map.
        WeightsError: `refine` is "auto", and Segment Anything's weights cannot be obtained.
    """
    check_refine(refine)
    before = model.judging
    rate = _false_alarm_rate(before) if false_alarm_rate is None else false_alarm_rate
    check_false_alarm_rate(rate)
    check_held_out(len(photographs))
    output = expanded(output)
    check_output(output)
    measured = tuple(scale.anomaly_map for scale in before.scales)
    if results is not None:
        facts.validate(results, before)
    judging = before.replace(
        judge_by=anomaly_map or before.judge_by,
        draw_by=before.draw_by if draw_by is None else draw_by,
        bits=bits or before.bits,
    )
    if minimum_area is not None:
        shape = read_picture(photographs[0], bits=judging.bits).image.shape[:2]
        judging = judging.replace(minimum_area=area_on_frame(minimum_area, shape, model.frame_size))
    check_judging(model.config, judging)
    make_parent(output)
    with making(output) as folder:
        (model if looked_at is None else _with_region(model, looked_at)).save_pretrained(folder, dtype=torch.float16)
        saved = STLM.from_pretrained(folder, device=next(model.parameters()).device)
        saved.judging = judging.replace(familiarity_limits=saved.judging.familiarity_limits)
        _check_unknown(saved, photographs)
        normals = choose_photographs([Normal(path) for path in photographs])
        calibrate(
            saved,
            normals,
            rate,
            careful=before.careful if careful is None else careful,
            nuisance=Nuisance.from_dict(results.nuisance) if results and results.nuisance else None,
            left_out=[name for name in ANOMALY_MAPS if measured and name not in measured],
            on_image=on_image,
        )
        saved.judging = chosen_outlines(saved, normals, refine, on_image=on_image)
        saved.save_calibration(folder)
        options: dict[str, Value] = dict.fromkeys(named, "FILE") if looked_at is not None else {}
        if minimum_area is not None:
            options["minimum-area"] = minimum_area
        if refine is not None:
            options["refine"] = refine
        amended = _amended(results, before, saved.judging, repo_id, options)
        held_out = Photographs(len(photographs), fingerprint(photographs))
        amended = dataclasses.replace(
            amended,
            dataset=dataclasses.replace(amended.dataset, held_out=held_out),
            files=file_facts(folder),
            parameters=sum(p.numel() for p in saved.parameters()),
        )
        write_results(folder, amended, saved.judging, repo_id)
        move_folder(folder, output)
    return saved


def _false_alarm_rate(judging: Judging) -> float:
    """The rate that a model was calibrated for, or the default."""
    return judging.calibration.false_alarm_rate if judging.calibration else DEFAULT_FALSE_ALARM_RATE


def _with_region(model: STLM, looked_at: np.ndarray) -> STLM:
    """The same model with another region of interest, HxW bool. What is familiar must be measured anew for it."""
    judging = model.judging.replace(familiarity_limits=())
    changed = STLM(model.config.replace(region=True), judging, model.name, network=model.network)
    changed.patch_memory = model.patch_memory
    assert changed.region is not None
    changed.region.inside.copy_(torch.from_numpy(on_frame(looked_at, model.frame_size)))
    return changed


@torch.inference_mode()
def is_remembered(model: STLM, photograph: Path) -> bool:
    """Whether patches of this very photograph are in the memory of a calibrated model.

    Raises:
        ImageError: the photograph cannot be used.
    """
    memory, scale = model.patch_memory, model.judging.scale("memory")
    if memory is None or scale is None:
        return False
    image = read_picture(photograph, bits=model.judging.bits).image
    return float(memory.closest(patches_to_remember(model, input_of(model, [image])))) < KNOWN * scale.typical


def _check_unknown(model: STLM, photographs: Sequence[Path]) -> None:
    """Raises DataError for photographs that are in the memory: their scores would say nothing about other parts."""
    if known := [path.name for path in photographs if is_remembered(model, path)]:
        are = "is" if len(known) == 1 else "are"
        raise DataError(
            f"{len(known)} of {len(photographs)} photographs {are} in the memory of the model ({known[0]}); name "
            "others, of good parts that it has not seen."
        )


def _amended(
    results: Results | None,
    before: Judging,
    now: Judging,
    repo_id: str,
    further: Mapping[str, Value],
) -> Results:
    """The results of the training that are still true, with the new provenance.

    `recalibration` keeps one thing of earlier calibrations: which map judged after the training.

    Args:
        results: of the model before; None: not known.
        before, now: how the model judged and judges.
        repo_id: of the new model.
        further: options of the command that `before` and `now` do not tell.
    """
    known = results or Results()
    source = known.provenance
    alias = repo_id.rsplit("/", 1)[-1]
    command = Command("stlm calibrate", ("FOLDER",), _options(source.alias, alias, before, now, further))
    weights = known.files.get("model.safetensors")
    earlier = known.recalibration
    return dataclasses.replace(
        known,
        provenance=dataclasses.replace(
            source,
            alias=alias,
            repo_id=repo_id,
            commands=(*source.commands, command),
            made=source.made if results else Circumstances(versions={"stlm_hub": __version__}),
        ),
        recalibration=CalibrationFacts(
            alias=source.alias,
            repo_id=source.repo_id,
            weights_sha256=weights.sha256 if weights else "",
            held_out=known.dataset.held_out,
            calibration=before.calibration,
            anomaly_map=before.judge_by,
            trained_map=earlier.trained_map if earlier else before.judge_by,
            training_results=earlier.training_results if earlier else results is not None,
        ),
        maps=_without_miss_rates(known.maps),
        other_seeds=tuple(dataclasses.replace(seed, maps=_without_miss_rates(seed.maps)) for seed in known.other_seeds),
        test_scores=None,
        curves=None,
    )


def _options(
    source: str, alias: str, before: Judging, now: Judging, further: Mapping[str, Value]
) -> dict[str, Value | tuple[str, ...]]:
    """Options of `stlm calibrate` that turn one judging into another.

    Args:
        source, alias: of the model before and of the new one.
        before, now: how they judge.
        further: other options.
    """
    assert now.calibration is not None
    options: dict[str, Value | tuple[str, ...]] = {"model": source or "MODEL", "output": alias}
    if now.calibration.false_alarm_rate != _false_alarm_rate(before):
        options["false-alarm-rate"] = now.calibration.false_alarm_rate
    if now.careful != before.careful:
        options["careful" if now.careful else "no-careful"] = True
    if now.judge_by != before.judge_by:
        options["map"] = now.judge_by
    if now.draw_by != before.draw_by:
        options["draw"] = now.draw_by
    if now.bits != before.bits and now.bits is not None:
        options["bits"] = now.bits
    return options | dict(further)


def _without_miss_rates(maps: Mapping[MapName, MapFigures]) -> dict[MapName, MapFigures]:
    """Figures of each map without those at a threshold, which has changed."""
    return {name: dataclasses.replace(figures, fnr=None) for name, figures in maps.items()}
