"""A weights file of a stranger -> tensors for a network.

Only safetensors is read, and nothing of it is loaded before its header has been compared with the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import WeightsError
from ..fingerprint import file_sha256
from .hub import CONFIG_NAME, WEIGHTS_NAME

MAX_HEADER_BYTES = 2**20
_FLOATS = ("F32", "F16", "BF16")


def read_weights(path: Path, expected: Mapping[str, Tensor], *, sha256: str | None = None) -> dict[str, Tensor]:
    """Reads weights for a network, strictly.

    Args:
        path: a safetensors file. Floats may be float32, float16 or bfloat16; they are cast up exactly.
        expected: the network's `state_dict()`, on any device; only names, shapes and dtypes are looked at.
        sha256: what the file must hash to.

    Returns:
        Tensors on the CPU with the names, shapes and dtypes of `expected`.

    Raises:
        WeightsError: the file is missing, altered, of another form or for another network, or holds non-finite values.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is missing; a model folder holds {CONFIG_NAME} and {WEIGHTS_NAME}.")
    _check_form(path, MAX_HEADER_BYTES + sum(tensor.numel() * tensor.element_size() for tensor in expected.values()))
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise WeightsError(
            f"{path} was altered or corrupted: its SHA-256 is {found[:12]}..., but it must be {sha256[:12]}.... "
            "Copy the folder anew, or download it again with: stlm zoo pull NAME --force"
        )
    try:
        with safe_open(path, framework="pt") as file:
            _check_names(path, set(file.keys()), set(expected))
            for name, tensor in expected.items():
                view = file.get_slice(name)
                shape, dtype = tuple(view.get_shape()), view.get_dtype()
                if shape != tuple(tensor.shape):
                    raise WeightsError(
                        f"{path} does not fit its {CONFIG_NAME}: {name} is {shape} and must be {tuple(tensor.shape)}."
                    )
                if dtype not in (_FLOATS if tensor.is_floating_point() else ("I64",)):
                    raise WeightsError(f"{path} holds {name} as {dtype}; save it anew with STLM.save_pretrained.")
            weights = {name: file.get_tensor(name).to(tensor.dtype) for name, tensor in expected.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({str(error)[:120]}); get it anew, or save it again."
        ) from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} holds NaN or infinite values in {name}; train or download the model anew.")
    return weights


def _check_form(path: Path, limit: int) -> None:
    """Sentences for the files that people have in the place of a safetensors file."""
    if (size := path.stat().st_size) > limit:
        raise WeightsError(f"{path} has {size} bytes, more than its network can take; get it anew, or save it again.")
    with path.open("rb") as file:
        start = file.read(24)
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise WeightsError(
            f"{path} is a pickle, which can run any code when it is read; stlm_hub reads only safetensors. Ask whoever "
            "made it to save it with STLM.save_pretrained."
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is only a pointer of Git LFS; fetch the file itself with: git lfs pull")


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    if found == expected:
        return
    missing, unknown = sorted(expected - found), sorted(found - expected)
    parts = [f"{len(missing)} tensors are missing ({missing[0]})"] if missing else []
    parts += [f"{len(unknown)} are unknown ({unknown[0][:80]!r})"] if unknown else []
    raise WeightsError(f"{path} does not fit its {CONFIG_NAME}: {', '.join(parts)}; get the whole folder anew.")
