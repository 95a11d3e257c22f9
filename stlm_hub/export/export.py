"""`stlm export`: a model -> a folder that runs without torch, written whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .. import __version__
from ..errors import ConfigError, DataError
from ..files.fingerprint import file_sha256
from ..model_folder import hub
from ..model_folder.folder import make_parent, making, write_config, write_judging
from ..model_folder.names import FORMATS, PRECISIONS, RESULTS_NAME, is_export
from ..models.stlm.config import CONFIG_NAME
from ..models.stlm.judging import CALIBRATION_NAME
from ..predict.images import list_images, read_picture
from ..predict.predictor import infer as torch_infer
from ..runtime.detector import ExportedModel, infer
from ..runtime.facts import ExportFacts, deciding_sha256
from ..runtime.kept import kept_exports
from ..runtime.sessions import INSTALL, is_installed, open_session
from ..stlm import STLM
from ..validate import check_choice, expanded
from ..wording import number_of
from . import parity
from .graph import write_onnx
from .openvino_graph import write_openvino
from .quantise import MOST as MOST_FITTED
from .quantise import quantise

_OWN = {*FORMATS.values(), "model.bin", CONFIG_NAME, CALIBRATION_NAME, RESULTS_NAME}
"""Files of an export."""
LEAST = 4
"""Photographs that an export is compared on, and that int8 is fitted to, at the least."""


def export(
    name: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    form: str = "onnx",
    precision: str = "fp32",
    photographs: str | os.PathLike[str] | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> ExportedModel:
    """Exports a model and proves that the export judges as the model does.

    Args:
        name: alias, `org/repo`, `org/repo@revision` or a folder.
        output: folder to write; an earlier export there is replaced. Inside the model's own folder, `STLM.predict` and
            `load` of the model use it. None: the cache, where they find it, too.
        form: "onnx" for ONNX Runtime, "openvino" for OpenVINO.
        precision: "fp32"; "bf16", OpenVINO alone and only on processors that have it; "int8".
        photographs: folder of good parts, held out from training, that the two are compared on; int8 is fitted to
            others of them. None: drawn pictures, which do for fp32 alone.
        on_image: called with (done, total) after each comparison.

    Raises:
        ConfigError: the two differ too much, format and precision do not go together, the output cannot be written, or
            a package is missing.
        DataError: there are too few photographs.
        HubError, WeightsError, ImageError: model or photographs cannot be read.
    """
    _check_request(form, precision, photographs is not None)
    if output is not None:
        _check_place(expanded(output))
    local = hub.resolve(name)
    place = kept_exports(local.folder) / f"{form}-{precision}" if output is None else expanded(output)
    model = STLM.from_pretrained(name, device="cpu")
    fitted, good = _photographs(photographs, model, precision)
    make_parent(place.absolute())
    with making(place.absolute()) as beside:
        folder = beside / "export"
        folder.mkdir()
        _write_graph(model, folder, form, precision, fitted)
        write_config(folder, model.config)
        write_judging(folder, model.judging)
        if precision == "bf16":
            check_runs(folder / FORMATS[form], form, precision, model.frame_size)
        session = open_session(form, folder / FORMATS[form], precision)
        found = parity.compare(
            lambda image: next(torch_infer(model, [image], model.judging.shown)),
            lambda image: next(infer(session, model.judging, [image], model.frame_size)),
            good,
            model.judging,
            drawn=photographs is None,
            on_image=on_image,
        )
        parity.check(found, precision)
        facts = ExportFacts(
            name=model.name,
            format=form,
            precision=precision,
            input_size=model.input_size,
            files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
            source=deciding_sha256(local.folder),
            parity=found,
            date=datetime.date.today().isoformat(),
            versions=_versions(form),
        )
        (folder / RESULTS_NAME).write_bytes(facts.to_json())
        _move(folder, place)
    return ExportedModel(facts, model.config, model.judging, session)


def _check_request(form: str, precision: str, has_photographs: bool) -> None:
    check_choice("format", form, FORMATS)
    check_choice("precision", precision, PRECISIONS)
    if not is_installed(form):
        raise ConfigError(f"The export is compared with the model by running it: {INSTALL[form]}")
    if precision == "bf16":
        from ..runtime.sessions import has_bfloat16

        if form == "onnx":
            raise ConfigError("ONNX Runtime does not compute in bf16 on processors; give --format openvino.")
        if not has_bfloat16():
            raise ConfigError("This processor does not compute in bf16; export on one that does, or in fp32 or int8.")
    if precision != "fp32" and not has_photographs:  # drawn pictures do not tell whether it still finds defects
        raise ConfigError(
            f"{precision} is less exact, so it is tried on photographs of good parts; give a folder of them with "
            "--photographs."
        )


TRIAL = """
import sys, pathlib, numpy
from stlm_hub.runtime.sessions import open_session
form, path, precision, height, width = sys.argv[1:]
open_session(form, pathlib.Path(path), precision)(numpy.zeros((1, int(height), int(width), 3), numpy.uint8))
"""


def check_runs(graph: Path, form: str, precision: str, size: tuple[int, int]) -> None:
    """Tries a graph in a process of its own: OpenVINO 2026.4 ends its process in bf16 on some processors with AMX.

    Raises:
        ConfigError: the process did not come to its end.
    """
    command = [sys.executable, "-c", TRIAL, form, str(graph), precision, *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - this Python, and names of ours
    if done.returncode:
        raise ConfigError(f"OpenVINO cannot run this model in {precision} on this processor; export in fp32 or int8.")


def _check_place(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{place} is a file; name a new folder for the export.")
    if place.is_dir() and any(place.iterdir()) and not is_export(place):
        raise ConfigError(f"{place} already holds something else; name a new folder for the export.")
    others = {path.name for path in place.iterdir() if not path.name.startswith(".")} - _OWN if place.is_dir() else ()
    if others:  # the whole folder is replaced
        raise ConfigError(f"{place} holds {min(others)} beside an export; name another folder, or move it away.")


def _photographs(
    folder: str | os.PathLike[str] | None, model: STLM, precision: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photographs that int8 is fitted to, and others to compare on, HxWx3 uint8 RGB at the network's size."""
    if folder is None:
        return [], list(parity.drawn_photographs(model.frame_size))
    paths, least = list_images(expanded(folder)), LEAST * (2 if precision == "int8" else 1)
    if len(paths) < least:
        raise DataError(
            f"{folder} holds {number_of(len(paths), 'photograph')}; an export in {precision} needs {least} or more of "
            "good parts."
        )
    fitted = paths[::2][:MOST_FITTED] if precision == "int8" else []
    left_out = set(fitted)
    compared = [path for path in paths if path not in left_out][: parity.MOST]

    def read(some: Sequence[Path]) -> list[np.ndarray]:
        images = [read_picture(path, bits=model.judging.bits).image for path in some]
        return parity.at_network_size(images, model.frame_size)

    return read(fitted), read(compared)


def _write_graph(model: STLM, folder: Path, form: str, precision: str, fitted: Sequence[np.ndarray]) -> None:
    with TemporaryDirectory(prefix=".graph-", dir=folder.parent) as name:
        graph = Path(name) / "model.onnx"
        write_onnx(model, graph)
        if precision == "int8":
            quantised = Path(name) / "int8.onnx"
            quantise(graph, quantised, fitted)
            graph = quantised
        if form == "onnx":
            graph.replace(folder / FORMATS[form])
        else:
            write_openvino(graph, folder / FORMATS[form], precision)


def _move(folder: Path, place: Path) -> None:
    """Puts a finished folder in the place of an earlier export, or of nothing."""
    try:
        before = folder.with_name("before")
        if place.exists():
            place.rename(before)
        try:
            folder.rename(place)
        except OSError:
            if before.exists():
                before.rename(place)
            raise
        with contextlib.suppress(OSError):
            shutil.rmtree(before)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written ({error.strerror}); name another folder.") from error


def _versions(form: str) -> dict[str, str]:
    packages = ["torch", "onnx", "onnxruntime" if form == "onnx" else "openvino"]
    return {"stlm_hub": __version__, **{package: importlib.metadata.version(package) for package in packages}}
