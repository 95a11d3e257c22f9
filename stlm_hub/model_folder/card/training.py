"""How a model was trained: the short table at the end of its card."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from ...models.stlm.config import STLMConfig, size_text, smallest_defect
from ...wording import number_of
from ..names import WEIGHTS_NAME
from ..provenance import Circumstances, TrainingFacts
from ..results import Results
from .figures import TEACHERS
from .text import public_source

T = TypeVar("T")

BACKBONES = {"efficientnet_lite0": "EfficientNet-lite0", "mobile_sam": "MobileSAM"}
"""What people read of the backbone of a patch memory."""


def training_rows(results: Results, config: STLMConfig) -> list[list[str]]:
    """Rows of two cells, name and value; what is not known is left out."""
    made, training = results.provenance.made, results.training
    rows = [
        ("Photographs", _photographs(results, config.streams)),
        *(_training_rows(training, made) if training else []),
        ("Disturbed copies", _nuisance(results.nuisance or {})),
        ("Image size", size_text(config.network)),
        ("Smallest defect", _smallest(results, config)),
        ("Size", _size(results)),
        ("Time for one photograph", _latency(results)),
        ("Made", _made(made)),
    ]
    return [[name, value] for name, value in rows if value]


def _training_rows(training: TrainingFacts, made: Circumstances) -> list[tuple[str, str]]:
    trained, batch = training.made or made, _of(training.settings, "batch_size", int)
    steps = number_of(training.steps, "step") + (f" of {number_of(batch, 'photograph')}" if batch else "")
    return [
        ("Pseudo anomalies", _pseudo_anomalies(_of(training.settings, "synthesis", dict) or {})),
        ("Training", _list(steps, _time(training.seconds, trained.hardware), f"seed {training.seed}")),
        ("Teacher", TEACHERS.get(training.teacher, training.teacher)),
        ("Starting weights", public_source(training.starting_weights.source)),
        ("Network", _network(training.made) if training.made else ""),
    ]


def _photographs(results: Results, streams: bool) -> str:
    """The data set, and how many of its photographs did what; a memory that judges alone holds nothing out."""
    train, held_out, remembered = results.dataset.train, results.dataset.held_out, results.dataset.remembered
    theirs = "good of its user's own for the threshold" if results.recalibration else "good held out"
    alone = "" if streams or not remembered else f"{remembered} good for the memory"
    counts = _list(
        alone or (f"{train.n} good for training" if train else ""),
        f"{held_out.n} {theirs}" if held_out and (results.recalibration or not alone) else "",
    )
    return ": ".join(part for part in (results.dataset.name, counts) if part)


def _pseudo_anomalies(synthesis: dict[str, Any]) -> str:
    """Families of pseudo anomalies; where some are drawn more often than others, how often."""
    names = [name for name in _of(synthesis, "families", list) or [] if isinstance(name, str)]
    counts = Counter(names)
    even = len(set(counts.values())) <= 1
    probability = _of(synthesis, "probability", (int, float))
    return _list(
        *(name if even else f"{name} ({n} of {len(names)})" for name, n in counts.items()),
        f"on {100 * probability:g} % of the photographs" if probability else "",
        "on the part alone" if synthesis.get("on_part") is True else "",
    )


def _nuisance(settings: dict[str, Any]) -> str:
    """How strongly the photographs were disturbed that memory and calibration saw besides."""
    gain, fall_off, blur, noise, quality = (
        _of(settings, name, (int, float)) for name in ("gain", "fall_off", "blur", "noise", "jpeg_quality")
    )
    return _list(
        f"brightness +-{100 * gain:g} %" if gain else "",
        f"fall-off of light +-{100 * fall_off:g} %" if fall_off else "",
        f"blur up to {blur:g} px" if blur else "",
        f"noise up to {noise:g} grey levels" if noise else "",
        f"JPEG from quality {quality:g}" if quality else "",
    )


def _smallest(results: Results, config: STLMConfig) -> str:
    shape = results.dataset.photograph
    if shape is None:
        return ""
    side = smallest_defect(shape, config.network.frame_size)
    return f"about {side:.0f} px of a photograph of {shape[1]} x {shape[0]} px"


def _time(seconds: float, hardware: str) -> str:
    duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{duration} on {hardware}" if hardware else duration


def _size(results: Results) -> str:
    file = results.files.get(WEIGHTS_NAME)
    return _list(
        f"{results.parameters:,} parameters" if results.parameters else "",
        f"{file.bytes / 1e6:.1f} MB" + (f" of {file.dtype}" if file.dtype else "") if file else "",
    )


def _latency(results: Results) -> str:
    latency, hardware = results.latency, results.provenance.made.hardware
    if latency is None:
        return ""
    text = f"{latency.milliseconds_per_image} ms at {latency.image_size} px with {number_of(latency.threads, 'thread')}"
    return f"{text} on {hardware}" if hardware else text


def _network(made: Circumstances) -> str:
    """Of a network that is older than the folder around it."""
    return _list(f"trained {made.date}" if made.date else "", f"commit {made.commit or 'not kept'}", "unchanged since")


def _made(made: Circumstances) -> str:
    version = made.versions.get("stlm_hub", "")
    return _list(
        made.date,
        f"stlm_hub {version}" if version else "",
        f"commit {made.commit}" if made.commit else "",
    )


def _list(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _of(settings: dict[str, Any], name: str, kind: type[T] | tuple[type[T], ...]) -> T | None:
    """A setting where it is there and of its kind: a file may come from an older version, or from a stranger."""
    value = settings.get(name)
    return value if isinstance(value, kind) else None
