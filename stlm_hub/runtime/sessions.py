"""An exported graph, opened by its runtime: pixels in; maps, scores and distances out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from ..files.cache import cache_folder

BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The Python package that runs each file format of a graph."""
INSTALL = {"onnx": 'pip install "stlm_hub[runtime]"', "openvino": 'pip install "stlm_hub[openvino]"'}


class Outputs(NamedTuple):
    """Outputs of a graph for a batch, float32.

    maps: BxMxHxW in [0, 1], the M maps `Judging.shown`. scores: BxM in [0, 1]. distances: Bx2, from good photographs by
    content and by layout. limits: BxKxHxW, the K maps `Judging.behind` in limits, -inf outside the region that counts;
    None: the model has no minimum area.
    """

    maps: np.ndarray
    scores: np.ndarray
    distances: np.ndarray
    limits: np.ndarray | None = None


Session = Callable[[np.ndarray], Outputs]
"""BxHxWx3 uint8 RGB -> outputs. It may be called by several threads."""


def is_installed(form: str) -> bool:
    """Whether the package that runs this format of a graph is installed."""
    return find_spec(BACKENDS[form]) is not None


def open_session(form: str, path: Path, precision: str = "fp32", threads: int | None = None) -> Session:
    """Opens a graph.

    Args:
        form: its file format, one of `facts.FORMATS`.
        path: of the graph.
        precision: that it was exported for, one of `facts.PRECISIONS`.
        threads: for one batch; None: as many as the machine has cores.

    Raises:
        ConfigError: the runtime is not installed, or cannot read the graph.
    """
    if not is_installed(form):
        raise ConfigError(f"{path.name} needs {BACKENDS[form]}, which is not installed; get it with: {INSTALL[form]}")
    opener = _open_onnx if form == "onnx" else _open_openvino
    with _errors(form, f"cannot read {path}"):
        session = opener(path, precision, threads)

    def run(pixels: np.ndarray) -> Outputs:
        with _errors(form, f"cannot run {path}"):
            return session(pixels)

    return run


@contextmanager
def _errors(form: str, what: str) -> Iterator[None]:
    """Turns any exception of a runtime into a ConfigError."""
    try:
        yield
    except Exception as error:  # each runtime has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{BACKENDS[form]} {what} ({reason}); export the model again with: stlm export") from error


def _open_onnx(path: Path, precision: str, threads: int | None) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Threads that spin while they wait slow each other down if another process uses a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name in Outputs._fields]
    return lambda pixels: Outputs(**dict(zip(names, session.run(names, {"pixels": pixels}), strict=True)))


def _open_openvino(path: Path, precision: str, threads: int | None) -> Session:
    import openvino

    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    if cache := _cache():
        settings["CACHE_DIR"] = cache  # compiling takes seconds, reading what was compiled a fraction of one
    compiled = core.compile_model(path, "CPU", settings)
    own = threading.local()
    names = [name for name in Outputs._fields if any(name in output.names for output in compiled.outputs)]

    def run(pixels: np.ndarray) -> Outputs:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        outputs = own.request.infer({"pixels": pixels})
        return Outputs(**{name: outputs[name].copy() for name in names})

    return run


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor; if not, it uses float32 without saying so."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _cache() -> str | None:
    """The folder where OpenVINO keeps compiled graphs; None: it cannot be written."""
    folder = cache_folder() / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None
