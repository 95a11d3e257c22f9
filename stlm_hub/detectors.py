"""`load`: a name -> whatever judges it best here, an exported model or PyTorch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .errors import ConfigError, HubError
from .model_folder import zoo
from .runtime.facts import check_export_request, is_export

if TYPE_CHECKING:
    from .runtime.detector import ExportedModel
    from .stlm import STLM

INSTALL_TORCH = 'pip install "stlm_hub[torch]"'


def load(
    name: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None, bits: int | None = None
) -> STLM | ExportedModel:
    """Loads a model or an export of one. An export in a model's folder is preferred, where its runtime is installed.

    Args:
        name: a folder that `stlm export` wrote, or what `STLM.from_pretrained` takes.
        device: where it judges. Exports judge on processors, so that one takes PyTorch's place for None and "cpu"
            alone; `STLM.from_pretrained(name, backend="torch")` judges in PyTorch on a processor, too.
        threads: of an exported model; None: as many as the machine has cores.
        bits: that photographs of 16 bits use: 10, 12, 14 or 16; None: what the model knows.

    Returns:
        A `stlm_hub.predict.detector.Detector`.

    Raises:
        ConfigError: an export, a model or `bits` is not valid, or what runs it is not installed.
        HubError: there is no such model.
        WeightsError: the weights cannot be used.
    """
    detector = _load(name, device, threads)
    if bits is not None:
        detector.judging = detector.judging.replace(bits=bits)
    return detector


def _load(name: str | os.PathLike[str], device: str | None, threads: int | None) -> STLM | ExportedModel:
    from .runtime.beside import fastest
    from .runtime.detector import ExportedModel

    folder = zoo.local_folder(name)
    if folder is not None and is_export(folder):
        check_export_request(folder, device=device)
        return ExportedModel.from_folder(folder, threads=threads)
    if folder is not None and device in (None, "cpu") and (found := fastest(folder, threads)) is not None:
        return found
    if folder is None and "/" not in os.fspath(name) and os.fspath(name).partition("@")[0] not in zoo.load_zoo():
        raise HubError(zoo.unknown_alias(os.fspath(name)))  # before torch is imported
    if find_spec("torch") is None:
        raise ConfigError(f"{os.fspath(name)} is not an exported model and needs PyTorch: {INSTALL_TORCH}")
    from .stlm import STLM

    return STLM.from_pretrained(name, device=device)
