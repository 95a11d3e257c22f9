"""`load`: a name -> whatever judges it best here, an exported model or PyTorch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from .errors import ConfigError
from .model_folder import zoo
from .model_folder.names import is_export
from .runtime.facts import check_export_request

if TYPE_CHECKING:
    from .runtime.detector import ExportedModel
    from .stlm import STLM

INSTALL_TORCH = 'pip install "stlm_hub[torch]"'


def load(
    name: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    bits: int | None = None,
    backend: str | None = None,
) -> STLM | ExportedModel:
    """Loads a model or an export of one. An export in a model's folder is preferred, where its runtime is installed.

    Args:
        name: a folder that `stlm export` wrote, or what `STLM.from_pretrained` takes.
        device: where it judges; None: a graphics card where there is one. Exports judge on processors, so one takes
            PyTorch's place there alone.
        threads: of an exported model; None: as many as the machine has cores.
        bits: that photographs of 16 bits use: 10, 12, 14 or 16; None: what the model knows.
        backend: of PyTorch, see `STLM.from_pretrained`; None: an export where there is one, else "torch".

    Returns:
        A `stlm_hub.predict.detector.Detector`.

    Raises:
        ConfigError: an export, a model or `bits` is not valid, or what runs it is not installed.
        HubError: there is no such model.
        WeightsError: the weights cannot be used.
    """
    detector = _load(name, device, threads, backend)
    if bits is not None:
        detector.judging = detector.judging.replace(bits=bits)
    return detector


def judging_folder(name: str | os.PathLike[str]) -> Path:
    """The folder of what `load` judges by on a processor: a model, or the export that takes its place.

    Raises:
        HubError, WeightsError: as of `load`; a model of the Hub is downloaded.
    """
    from .runtime.beside import exports_of

    folder = zoo.local_folder(name)
    if folder is None:
        from .model_folder import hub

        folder = hub.resolve(name).folder
    exports = [] if is_export(folder) else exports_of(folder)
    return exports[0][0] if exports else folder


def _load(
    name: str | os.PathLike[str], device: str | None, threads: int | None, backend: str | None
) -> STLM | ExportedModel:
    from .runtime.beside import fastest
    from .runtime.detector import ExportedModel

    folder = zoo.local_folder(name)
    if folder is not None and is_export(folder):
        check_export_request(folder, device=device, backend=backend)
        return ExportedModel.from_folder(folder, threads=threads)
    export_may_judge = backend is None and not _on_graphics_card(device)
    if folder is not None and export_may_judge and (found := fastest(folder, threads)) is not None:
        return found
    if folder is None and isinstance(name, str):
        zoo.check_name(name)  # before torch is imported
    if find_spec("torch") is None:
        what = (
            f"There is no folder {name} here, and a model of the Hub" if folder is None else f"{name} is no export and"
        )
        raise ConfigError(f"{what} needs PyTorch: {INSTALL_TORCH}")
    from .stlm import STLM

    if folder is None and threads is not None and export_may_judge:
        from .model_folder import hub

        if (found := fastest(hub.resolve(name).folder, threads)) is not None:
            return found
    return STLM.from_pretrained(name, device=device, backend=backend)


def judges_on_graphics_card(name: str | os.PathLike[str], device: str | None) -> bool:
    """Whether what `load` returns for this name and device judges on a graphics card; an export never does."""
    folder = zoo.local_folder(name)
    return not (folder is not None and is_export(folder)) and _on_graphics_card(device)


def _on_graphics_card(device: str | None) -> bool:
    """Whether a model of this `device` is put on a graphics card. Without NVIDIA's driver PyTorch is not asked."""
    if device is not None:
        return device != "cpu"
    if find_spec("torch") is None or not (which("nvidia-smi") or Path("/proc/driver/nvidia").exists()):
        return False
    import torch

    return torch.cuda.is_available()
