"""How PyTorch computes a forward pass: all that changes its speed and not the network, in one place."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from .stlm.anomaly_maps import AnomalyMaps, Seen

Model = TypeVar("Model", bound=nn.Module)

CUDA_GRAPHS = "reduce-overhead"
"""Mode of `torch.compile` that records CUDA graphs: a small network waits for launches more than for products."""

_compiled: weakref.WeakKeyDictionary[nn.Module, tuple[Acceleration, Callable[..., Any]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Acceleration:
    """What a model computes with; the default is float32, operation by operation.

    Args:
        bf16: convolutions and layers in bfloat16, under autocast. Distances and scores stay in float32.
        compiled: mode of `torch.compile`, e.g. `CUDA_GRAPHS`; "": not compiled. Each size of a batch is compiled anew.
    """

    bf16: bool = False
    compiled: str = ""

    @property
    def backend(self) -> str:
        """What a prediction says of it: "torch", "torch bf16", "torch bf16 compiled" or "torch compiled"."""
        return " ".join(["torch", *(["bf16"] if self.bf16 else []), *(["compiled"] if self.compiled else [])])

    @classmethod
    def of(cls, backend: str) -> Acceleration:
        """The acceleration of this name, see `backend`.

        Raises:
            ConfigError: there is none of this name.
        """
        known = {one.backend: one for bf16 in (False, True) for one in (cls(bf16), cls(bf16, CUDA_GRAPHS))}
        if backend not in known:
            raise ConfigError(f"There is no backend {backend!r}; choose one of {list(known)}.")
        return known[backend]


def placed(model: Model, device: torch.device) -> Model:
    """The model, moved in place; on a graphics card with channels last, which its convolutions in bfloat16 need."""
    model.to(device)
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def loaded(pixels: Tensor, device: torch.device | None) -> Tensor:
    """Bx3xHxW uint8 -> float32 on the device. To a graphics card bytes go out of pinned memory, while it computes."""
    if device is not None and device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True).to(torch.float32)


def look(model: AnomalyMaps, image: Tensor, which: Sequence[str]) -> Seen:
    """`model(image, which)` without gradients, as the model's `acceleration` says."""
    wanted = model.acceleration
    with torch.inference_mode(), torch.autocast(image.device.type, torch.bfloat16, enabled=wanted.bf16):
        seen: Seen = _forward(model, wanted)(image, tuple(which))
    return seen


def _forward(model: AnomalyMaps, wanted: Acceleration) -> Callable[..., Any]:
    if not wanted.compiled:
        return model
    found = _compiled.get(model)
    if found is None or found[0] != wanted:
        _compiled[model] = found = (wanted, torch.compile(model.forward, mode=wanted.compiled, dynamic=False))
    return found[1]


def in_float32(values: Tensor) -> AbstractContextManager[Any]:
    """Without autocast: differences of large numbers are lost in bfloat16."""
    kind = values.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()
