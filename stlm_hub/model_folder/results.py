"""What is known of how a model came about and how well it does: `results.json`, field for field.

Every figure that a card shows is in here. The dataclasses are the format: unknown fields, wrong types and impossible
values end in one ConfigError. Nothing outside this file looks into the JSON.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import ConfigError
from ..files.fingerprint import file_sha256
from ..files.whole import replace_file
from ..models.stlm.judging import Calibration, Judging
from ..models.stlm.scales import ANOMALY_MAPS
from ..validate import read_bytes
from .names import RESULTS_NAME, WEIGHT_FILES

FORMAT_VERSION = 1
MAX_BYTES = 4 * 2**20


def _finite(value: JsonValue) -> JsonValue:
    """The same value; ValueError where a number in it is none, which JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(inner)
    return value


_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Text = Annotated[str, Field(max_length=4000)]
Value = bool | int | float | Text
"""Of an option of a command."""
Values = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1)]
MapName = Annotated[str, Field(pattern=f"^({'|'.join(ANOMALY_MAPS)})$")]
Settings = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


@dataclass(frozen=True, config=_STRICT)
class Command:
    """A command as data; `line` is what a shell takes.

    Args:
        program: e.g. "stlm finetune" or "python -m train".
        arguments: what stands before the options.
        options: by name without dashes; True is a flag, several values are an option each. A value in capitals stands
            for the reader's own: DIR, FILE.
    """

    program: Text
    arguments: tuple[Text, ...] = ()
    options: Mapping[str, Value | Values] = Field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command for a shell, on one line."""
        words = [self.program, *(shlex.quote(word) for word in self.arguments)]
        for name, given in self.options.items():
            for value in given if isinstance(given, tuple) else (given,):
                if value is not False:
                    words.append(f"--{name}")
                if not isinstance(value, bool):
                    words.append(shlex.quote(str(value)))
        return re.sub(r"\s", " ", " ".join(words))


@dataclass(frozen=True, config=_STRICT)
class Circumstances:
    """When something was made, on what, and with which versions ("stlm_hub", "torch", "commit", ...)."""

    date: Text = ""
    hardware: Text = ""
    versions: dict[str, Text] = Field(default_factory=dict)

    @property
    def commit(self) -> str:
        """Of the code; empty where it is not known."""
        return self.versions.get("commit", "")


@dataclass(frozen=True, config=_STRICT)
class Provenance:
    """Where a model comes from.

    Args:
        alias: name of the model.
        repo_id: `org/repo` where it is or will be published.
        weights_license: identifier of the Hub; "other" and "" are none.
        profile: of the recipe; empty where there is none.
        commands: what makes the model again, in order.
        made: when the folder was made.
    """

    alias: Text = ""
    repo_id: Text = ""
    weights_license: Text = ""
    profile: Text = ""
    commands: tuple[Command, ...] = ()
    made: Circumstances = Field(default_factory=Circumstances)


@dataclass(frozen=True, config=_STRICT)
class Photographs:
    """Some photographs: how many, and their fingerprint."""

    n: Count
    sha256: Text = ""


@dataclass(frozen=True, config=_STRICT)
class TestPhotographs:
    """Test photographs of both kinds, and the fingerprint of them and their masks."""

    __test__ = False  # its name looks like a test case's to pytest

    n_good: Count
    n_anomalous: Count
    sha256: Text = ""


@dataclass(frozen=True, config=_STRICT)
class Split:
    """Whether training and test photographs are the data set's own ones; else what differs."""

    official: bool
    reason: Text = ""

    @property
    def words(self) -> str:
        """ "official", or "not the official one" and why."""
        return "official" if self.official else f"not the official one: {self.reason}" if self.reason else "unofficial"


@dataclass(frozen=True, config=_STRICT)
class DatasetFacts:
    """Photographs that a model was trained, calibrated and evaluated on.

    Args:
        license: of the photographs, identifier of the Hub.
        hub_id: of the data set on the Hub, where it is there.
        note: what a reader of the figures must know.
        split: None where the data set has none, or there is no test set.
        photograph: usual height and width in pixels of the good ones; None: not known.
    """

    name: Text = ""
    license: Text = ""
    homepage: Text = ""
    hub_id: Text = ""
    note: Text = ""
    split: Split | None = None
    photograph: tuple[Count, Count] | None = None
    train: Photographs | None = None
    held_out: Photographs | None = None
    test: TestPhotographs | None = None


@dataclass(frozen=True, config=_STRICT)
class MapFigures:
    """Figures of one anomaly map on test photographs, as fractions; None where there is none.

    Args:
        i_auroc: area under the ROC of the anomaly scores; needs normal and anomalous images.
        p_auroc: area under the ROC of all pixels of all images.
        aupro: area under the per-region overlap curve up to a false-positive rate, over that rate (Bergmann et al., The
            MVTec Anomaly Detection Dataset, IJCV 2021).
        ap: average precision of the pixels, sum of (R_n - R_{n-1}) P_n as scikit-learn has it.
        f1_max: highest F1 of the pixels over all thresholds.
        fnr: miss rate, the share of anomalous images whose score stays below the map's own threshold, FN / (TP + FN)
            (arXiv 2402.19145, equation 9).
    """

    i_auroc: Fraction | None = None
    p_auroc: Fraction | None = None
    aupro: Fraction | None = None
    ap: Fraction | None = None
    f1_max: Fraction | None = None
    fnr: Fraction | None = None

    def to_dict(self) -> dict[str, float]:
        """The figures that are known."""
        return {name: value for name, value in vars(self).items() if value is not None and name in METRICS}


METRICS = {
    "i_auroc": ("Image-level AUROC", "roc_auc"),
    "p_auroc": ("Pixel-level AUROC", "roc_auc"),
    "aupro": ("AUPRO", "aupro"),
    "ap": ("Pixel-level AP", "average_precision"),
    "f1_max": ("Pixel-level F1-max", "f1"),
    "fnr": ("FNR at the threshold", "false_negative_rate"),
}
"""Fields of `MapFigures`: what people read, and the type in the Hub's model index."""

OF_PIXELS = ("p_auroc", "aupro", "ap", "f1_max")
"""Fields of `MapFigures` that are of pixels: of the map that is drawn, where another one judges."""


@dataclass(frozen=True, config=_STRICT)
class PaperFigures(MapFigures):
    """The paper's figures for the category, and the setting that they were measured in."""

    image_size: Count | None = None
    teacher: Text = ""
    source: Text = ""


@dataclass(frozen=True, config=_STRICT)
class TestScores:
    """Anomaly scores of the test photographs by the map that judges."""

    __test__ = False

    good: tuple[Fraction, ...] = ()
    anomalous: tuple[Fraction, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class StartingPoint:
    """The weights that a training started from."""

    source: Text = ""
    sha256: Text = ""


@dataclass(frozen=True, config=_STRICT)
class TrainingFacts:
    """How the network was trained.

    Args:
        settings: `TrainingConfig.to_dict`.
        steps: optimiser steps.
        seconds: of the steps together.
        final_losses: means over the last steps, by name.
        precision: "bf16" or "no".
        starting_weights: where the encoders started.
        made: when the network was trained, where that was not when the folder was made.
    """

    settings: Settings
    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    final_losses: dict[str, float]
    precision: Text
    starting_weights: StartingPoint
    made: Circumstances | None = None

    @property
    def seed(self) -> int:
        """Seed of the training."""
        value = self.settings.get("seed")
        return value if isinstance(value, int) else 0

    @property
    def teacher(self) -> str:
        """Name of the teacher, see `TrainingConfig`."""
        return str(self.settings.get("teacher") or "")


@dataclass(frozen=True, config=_STRICT)
class SeedFigures:
    """A training of the same recipe with another seed: its figures and when it was trained."""

    seed: Count
    made: Circumstances
    maps: dict[MapName, MapFigures]
    weights_sha256: Text = ""


@dataclass(frozen=True, config=_STRICT)
class CalibrationFacts:
    """What a model was before its threshold was chosen anew on other photographs.

    Args:
        alias, repo_id, weights_sha256: of the model before.
        held_out: photographs of its threshold.
        calibration: its threshold; None: it had none.
        anomaly_map: that judged then.
        trained_map: that judged after the training, whatever calibrations came since.
        training_results: whether the results of the training are known.
    """

    alias: Text = ""
    repo_id: Text = ""
    weights_sha256: Text = ""
    held_out: Photographs | None = None
    calibration: Calibration | None = None
    anomaly_map: MapName = "aggregation"
    trained_map: MapName = "aggregation"
    training_results: bool = True


@dataclass(frozen=True, config=_STRICT)
class FileFacts:
    """A weights file of the folder."""

    sha256: Text
    bytes: Count
    dtype: Text = ""


@dataclass(frozen=True, config=_STRICT)
class Latency:
    """Median time of one photograph through `predict`, decoded beforehand, in a batch of one."""

    milliseconds_per_image: Annotated[float, Field(ge=0)]
    threads: Count
    device: Text
    image_size: Count  # longer side of the frame in pixels


@dataclass(frozen=True, config=_STRICT)
class Results:
    """All that is known of a model besides `config.json` and `calibration.json`. `Results()` knows nothing.

    `nuisance` holds the fields of `pseudo_anomalies.nuisance.Nuisance` by which copies of the photographs were
    disturbed for memory and calibration; None: there were none, or they are not known.
    """

    provenance: Provenance = Field(default_factory=Provenance)
    dataset: DatasetFacts = Field(default_factory=DatasetFacts)
    maps: dict[MapName, MapFigures] = Field(default_factory=dict)
    paper: PaperFigures | None = None
    other_seeds: tuple[SeedFigures, ...] = ()
    training: TrainingFacts | None = None
    nuisance: Settings | None = None
    recalibration: CalibrationFacts | None = None
    files: dict[str, FileFacts] = Field(default_factory=dict)
    parameters: Count | None = None
    latency: Latency | None = None
    test_scores: TestScores | None = None
    curves: dict[str, dict[str, tuple[float, ...]]] | None = None
    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = FORMAT_VERSION

    def figures(self, anomaly_map: str) -> MapFigures | None:
        """Figures of one map; None where it was not measured."""
        return self.maps.get(anomaly_map)

    def shown(self, judging: Judging) -> dict[str, float]:
        """Figures of what people see: of scores by the map that judges, of pixels by the one that is drawn."""
        scores, pixels = (
            found.to_dict() if (found := self.figures(name)) else {} for name in (judging.judge_by, judging.drawn)
        )
        return {name: value for name, value in scores.items() if name not in OF_PIXELS} | {
            name: value for name, value in pixels.items() if name in OF_PIXELS
        }


_ADAPTER: TypeAdapter[Results] = TypeAdapter(Results)


def load(path: Path) -> Results:
    """Reads and checks results.json.

    Raises:
        ConfigError: it is missing, too large, or not what this library writes.
    """
    data = read_bytes(path, MAX_BYTES)
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:6])
        reason = f"{where + ': ' if where else ''}{first['msg'][:120]}"
    except ConfigError as error:  # of a calibration, which checks itself
        reason = str(error).rstrip(".")
    reason = "".join(char if char.isprintable() else "?" for char in reason)
    raise ConfigError(f"{path} is not what stlm_hub writes ({reason}); evaluate the model again, or leave it out.")


def save(results: Results, path: Path) -> None:
    """Writes results.json whole or not at all."""
    replace_file(path, _ADAPTER.dump_json(results, indent=1) + b"\n")


def check_files(results: Results, folder: Path) -> None:
    """Raises ConfigError where results are of other weights than those in `folder`."""
    for name in WEIGHT_FILES:  # no other file is read, whatever results of a stranger name
        known = results.files.get(name)
        if known and (folder / name).is_file() and file_sha256(folder / name) != known.sha256:
            raise ConfigError(f"{RESULTS_NAME} is of another {name}; train or evaluate the model again.")


def validate(results: Results, judging: Judging) -> None:
    """Whether results and calibration are of one model.

    Raises:
        ConfigError: the share of missed photographs is not that of the scores beside it.
    """
    measured = results.figures(judging.judge_by)
    if judging.calibration and results.test_scores and measured and measured.fnr is not None:
        scores = results.test_scores.anomalous
        missed = sum(score < judging.calibration.threshold for score in scores) / max(1, len(scores))
        if abs(missed - measured.fnr) > 1e-6:
            raise ConfigError(
                f"{RESULTS_NAME} says fnr {measured.fnr}, but by its test_scores {missed} are missed; evaluate the "
                "model again."
            )
