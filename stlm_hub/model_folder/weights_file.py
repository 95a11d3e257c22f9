"""A weights file -> tensors for a network, and back.

Only safetensors is read, and nothing of it is loaded before its header has been compared with the network. The file is
opened once: what is hashed is what is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import WeightsError
from ..files.whole import replace_file
from ..models.stlm.anomaly_maps import AnomalyMaps
from ..models.stlm.config import CONFIG_NAME
from .names import FAMILIARITY_NAME, MEMORY_NAME, REGION_NAME, WEIGHTS_NAME

MAX_HEADER_BYTES = 2**20
SAVED_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_FLOATS = ("F32", "F16", "BF16")
_INTEGERS = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8"}


def read_weights(
    path: Path,
    expected: Mapping[str, Tensor],
    *,
    sha256: str | None = None,
) -> dict[str, Tensor]:
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
    data = _read(path, expected)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise WeightsError(
            f"{path} was altered or corrupted: its SHA-256 is {found[:12]}..., but it must be {sha256[:12]}.... "
            "Copy the folder anew, or download it again with: stlm zoo pull NAME --force"
        )
    _check_header(path, data, expected)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError) as error:
        raise _not_whole(path, error) from error
    weights = {name: tensors[name].to(tensor.dtype) for name, tensor in expected.items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path} holds NaN or infinite values in {name}; train or download the model anew.")
    return weights


def read_model_weights(
    folder: Path, model: AnomalyMaps, sha256: Mapping[str, str] | None = None
) -> dict[str, dict[str, Tensor]]:
    """State dicts of a model's parts: "familiarity" and, where it has them, the others.

    Args:
        model: only the names, shapes and dtypes of its tensors are looked at; it may be on the device "meta".
        sha256: what files must hash to, by name.

    Raises:
        WeightsError: as of `read_weights`.
    """
    known = sha256 or {}
    parts = {
        "network": WEIGHTS_NAME,
        "familiarity": FAMILIARITY_NAME,
        "patch_memory": MEMORY_NAME,
        "region": REGION_NAME,
    }
    state = {}
    for part, name in parts.items():
        module = getattr(model, part)
        if module is not None:
            state[part] = read_weights(folder / name, module.state_dict(), sha256=known.get(name))
    if any(values.min() < 0 for name, values in state["familiarity"].items() if name.endswith(("variances", "rest"))):
        raise WeightsError(f"{folder / FAMILIARITY_NAME} holds variances below 0; train or download the model anew.")
    if "region" in state and not 0 < int(state["region"]["inside"].max()) <= 1:
        raise WeightsError(f"{folder / REGION_NAME} has no part that counts; make it anew with: stlm calibrate")
    return state


def write_weights(path: Path, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Writes a safetensors file whole or not at all; the same weights give the same bytes.

    Args:
        dtype: of floats in the file; float16 halves it and costs a little precision. None keeps them.

    Raises:
        WeightsError: the dtype is not of a kind that can be loaded, or a weight is not finite in it.
    """
    if dtype not in (None, *SAVED_DTYPES):
        raise WeightsError(f"Weights are saved as float32, float16 or bfloat16, not as {dtype}.")
    weights = {}
    for name, tensor in state.items():
        kept = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        if not torch.isfinite(kept).all():
            raise WeightsError(
                f"{name} holds values that are not finite as {kept.dtype}; train again, or save as float32."
            )
        weights[name] = kept.detach().cpu().contiguous()
    replace_file(path, save(weights, {"format": "pt"}))


def _read(path: Path, expected: Mapping[str, Tensor]) -> bytes:
    """The file's bytes, after sentences for the files that people have in the place of a safetensors file."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing; a model folder holds {CONFIG_NAME} and {WEIGHTS_NAME}.")
    limit = MAX_HEADER_BYTES + sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
    try:
        with path.open("rb") as file:
            start = file.read(24)
            pickled = start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
            if pickled and start[8:9] != b"{":  # a header of 640 bytes begins with 80 02, too
                raise WeightsError(
                    f"{path} is a pickle, which can run any code when it is read; stlm_hub reads only safetensors. Ask "
                    "whoever made it to save it with STLM.save_pretrained."
                )
            if start.startswith(b"version https://git-lfs"):
                raise WeightsError(f"{path} is only a pointer of Git LFS; fetch the file itself with: git lfs pull")
            data = start + file.read(limit)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); check the path.") from None
    if len(data) > limit:
        raise WeightsError(f"{path} has more bytes than its network can take; get it anew, or save it again.")
    return data


def _check_header(path: Path, data: bytes, expected: Mapping[str, Tensor]) -> None:
    """Compares names, shapes and types with the network's before anything of the file is loaded."""
    size = int.from_bytes(data[:8], "little")
    try:
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_once)
        found = {name: (tuple(facts["shape"]), facts["dtype"]) for name, facts in header.items() if name[:2] != "__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _not_whole(path, error) from error
    # Older files of streams hold the memory, too; the one that counts is in a file of its own.
    names = {name for name in found if name in expected or not name.startswith(("memory.", "memory_encoder."))}
    missing, unknown = sorted(expected.keys() - names), sorted(names - expected.keys())
    if missing or unknown:
        parts = [f"{len(missing)} tensors are missing ({missing[0]})"] if missing else []
        parts += [f"{len(unknown)} are unknown ({unknown[0][:80]!r})"] if unknown else []
        raise WeightsError(f"{path} does not fit its {CONFIG_NAME}: {', '.join(parts)}; get the whole folder anew.")
    for name, tensor in expected.items():
        shape, dtype = found[name]
        if shape != tuple(tensor.shape):
            raise WeightsError(
                f"{path} does not fit its {CONFIG_NAME}: {name} is {shape} and must be {tuple(tensor.shape)}."
            )
        kinds = _FLOATS if tensor.is_floating_point() else (_INTEGERS[tensor.dtype],)
        if dtype not in kinds:
            raise WeightsError(f"{path} holds {name} as {dtype}; save it anew with STLM.save_pretrained.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where it has a name twice: another parser might take the other value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _not_whole(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} is not a whole safetensors file ({str(error)[:120]}); get it anew, or save it again.")
