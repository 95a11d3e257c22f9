"""All that is known of a model: `results.json`, read, checked and written.

Every figure that a card shows is in here. The dataclasses are the format, field for field: unknown fields, wrong types
and impossible values end in one ConfigError. Nothing outside this file looks into the JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import ConfigError
from ..files.fingerprint import file_sha256
from ..files.whole import replace_file
from ..models.stlm.judging import Judging
from ..validate import read_bytes
from .fields import STRICT, Count, MapName, Settings, Text
from .figures import OF_PIXELS, Latency, MapFigures, PaperFigures, SeedFigures, TestScores
from .names import RESULTS_NAME, WEIGHT_FILES
from .provenance import CalibrationFacts, DatasetFacts, Provenance, TrainingFacts

FORMAT_VERSION = 1
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, config=STRICT)
class FileFacts:
    """A weights file of the folder."""

    sha256: Text
    bytes: Count
    dtype: Text = ""


@dataclass(frozen=True, config=STRICT)
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
