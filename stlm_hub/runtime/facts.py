"""Facts about an export: its `results.json`, field for field. Loading checks every value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, HubError
from ..files.fingerprint import file_sha256
from ..model_folder.names import (
    CALIBRATION_NAME,
    CONFIG_NAME,
    DECIDING,
    FORMATS,
    MAX_WEIGHT_BYTES,
    PRECISIONS,
    RESULTS_NAME,
)
from ..validate import check_choice, check_fields, check_integer, check_number, check_text, read_json

FORMAT_VERSION = 1
"""Version of an export's folder. It rises when a field changes its meaning; other folders are refused."""

_FILES = (*FORMATS.values(), "model.bin", CONFIG_NAME, CALIBRATION_NAME)


@dataclass(frozen=True)
class Parity:
    """How far an export is from the model in PyTorch, on photographs with and without pseudo anomalies.

    Args:
        photographs: number of good photographs.
        anomalies: number of pseudo anomalies painted on them.
        drawn: whether the photographs were drawn by a program, because the user gave none of the part.
        map_difference: largest difference of a map value, in [0, 1].
        score_difference: largest difference of an anomaly score, in [0, 1].
        changed_verdicts: photographs with another verdict, without those whose score lies on a threshold.
        image_auroc, aupro: of the export on good photographs against pseudo anomalies, in [0, 1].
        torch_image_auroc, torch_aupro: of PyTorch on the same photographs.
        seconds, torch_seconds: median for one photograph on the exporting machine, without decoding and resizing.
    """

    photographs: int
    anomalies: int
    drawn: bool
    map_difference: float
    score_difference: float
    changed_verdicts: int
    image_auroc: float
    torch_image_auroc: float
    aupro: float
    torch_aupro: float
    seconds: float
    torch_seconds: float

    def __post_init__(self) -> None:
        for name in ("photographs", "anomalies", "changed_verdicts"):
            check_integer(f"parity {name}", getattr(self, name), 0, 10**6)
        for name in ("map_difference", "score_difference", "image_auroc", "torch_image_auroc", "aupro", "torch_aupro"):
            check_number(f"parity {name}", getattr(self, name), 0.0, 1.0)
        for name in ("seconds", "torch_seconds"):
            check_number(f"parity {name}", getattr(self, name), 0.0, 1e6)


@dataclass(frozen=True)
class ExportFacts:
    """`results.json` of an export.

    Args:
        name: of the model, e.g. "mvtec-bottle".
        format: one of `FORMATS`.
        precision: one of `PRECISIONS`.
        input_size: height and width in pixels that the graph takes.
        files: SHA-256 of each file of the export that decides a prediction, by name.
        source: SHA-256 of each deciding file of the model folder that was exported, by name.
        parity: how far the export is from that model.
        date: ISO date of the export.
        versions: of the packages that made it.
    """

    name: str
    format: str
    precision: str
    input_size: tuple[int, int]
    files: Mapping[str, str]
    source: Mapping[str, str]
    parity: Parity
    date: str
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_choice("format", self.format, FORMATS)
        check_choice("precision", self.precision, PRECISIONS)
        if not isinstance(self.input_size, (list, tuple)) or len(self.input_size) != 2:
            raise ConfigError("input_size must be height and width; export the model again.")
        object.__setattr__(self, "input_size", tuple(self.input_size))
        for side in self.input_size:
            check_integer("input_size", side, 16, 2**14)
        for name, known in (("files", _FILES), ("source", DECIDING)):
            check_fields(name, getattr(self, name), known)
        check_fields("files", self.files, _FILES, required=(self.graph, CONFIG_NAME, CALIBRATION_NAME))
        for name in ("files", "source", "versions"):
            for key, value in check_fields(name, getattr(self, name), getattr(self, name)).items():
                check_text(f"{name} {key!r:.40}", value)
        check_text("date", self.date)

    @property
    def graph(self) -> str:
        """Name of the file that the runtime opens."""
        return FORMATS[self.format]

    @property
    def speedup(self) -> float:
        """Photographs that it judges while PyTorch judges one, on the exporting machine."""
        return self.parity.torch_seconds / max(self.parity.seconds, 1e-9)

    def to_json(self) -> bytes:
        """Contents of `results.json`, which `load_facts` reads."""
        return json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, indent=1).encode() + b"\n"


def load_facts(folder: Path) -> ExportFacts:
    """Reads and checks `results.json` of an export.

    Raises:
        ConfigError: it is missing or not valid.
    """
    data = read_json(folder / RESULTS_NAME)
    known = [field.name for field in dataclasses.fields(ExportFacts)]
    fields = dict(check_fields(RESULTS_NAME, data, ["format_version", *known], required=["format_version", *known]))
    if fields.pop("format_version") != FORMAT_VERSION:
        raise ConfigError(f"{folder} is an export of another version of stlm_hub; export the model again.")
    names = [field.name for field in dataclasses.fields(Parity)]
    parity: Any = check_fields("parity", fields.pop("parity"), names, required=names)
    return ExportFacts(parity=Parity(**parity), **fields)


def check_export_request(
    folder: Path, *, device: object = None, backend: str | None = None, revision: str | None = None
) -> None:
    """Refuses arguments that only a model in PyTorch supports.

    Raises:
        ConfigError: the device is not "cpu", or a backend is named.
        HubError: a revision is named.
    """
    if device is not None and str(device) != "cpu":
        raise ConfigError(f'{folder} is an export for processors and does not run on "{device}"; leave it out.')
    if backend is not None:
        raise ConfigError(
            f'{folder} is an export, which has one backend of its own, not "{backend}"; leave it out, or name the '
            "model that it was made of."
        )
    if revision is not None:
        raise HubError(f'{folder} is a folder and has no revision "{revision}"; leave the revision out.')


def check_unchanged(folder: Path, facts: ExportFacts) -> None:
    """Checks that an export is as it was written, and still that of the model folder that it lies in, if any.

    Raises:
        ConfigError: a file of the export is missing or was changed, or the model was changed since the export.
    """
    for name, digest in facts.files.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{path} is missing; export the model again with: stlm export")
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise ConfigError(f"{path} is larger than any export; export the model again with: stlm export")
        if file_sha256(path) != digest:
            raise ConfigError(
                f"{path} was changed since it was exported, so nothing vouches for what it says; export the model "
                "again with: stlm export"
            )
    if changed := changed_since(folder.parent, facts):
        raise ConfigError(
            f"{folder} is an export of another {changed} than {folder.parent} holds: the model was changed since. "
            "Export it again with: stlm export"
        )


def changed_since(model: Path, facts: ExportFacts) -> str:
    """What was changed in a model folder since the export: the name of a file that decides predictions.

    "": nothing was, or the folder holds no model.
    """
    if not all((model / name).is_file() for name in facts.source):
        return ""
    return next((name for name, digest in facts.source.items() if file_sha256(model / name) != digest), "")


def deciding_sha256(model: Path) -> dict[str, str]:
    """SHA-256 of each file of a model folder that decides a prediction, by name."""
    return {name: file_sha256(model / name) for name in DECIDING if (model / name).is_file()}
