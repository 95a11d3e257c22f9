"""How PyTorch computes a forward pass: everything that changes its speed but not the network."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from .stlm.anomaly_maps import AnomalyMaps, AnomalyOutput

Model = TypeVar("Model", bound=nn.Module)

CUDA_GRAPHS = "reduce-overhead"
"""Mode of `torch.compile` that records CUDA graphs: launching kernels takes a small network longer than computing."""

_compiled: weakref.WeakKeyDictionary[nn.Module, tuple[Acceleration, Callable[..., Any]]] = weakref.WeakKeyDictionary()
"""Compiled forward passes, which take the model as their first argument: holding it, they would keep it for ever."""


@dataclass(frozen=True)
class Acceleration:
    """Precision and compilation of a model. The default is float32, not compiled.

    Args:
        bf16: convolutions and linear layers in bfloat16, by autocast. Distances and scores stay in float32.
        compiled: mode of `torch.compile`, e.g. `CUDA_GRAPHS`; "": not compiled. Each batch size is compiled anew.
    """

    bf16: bool = False
    compiled: str = ""

    @property
    def backend(self) -> str:
        """Its name in a prediction: "torch", "torch bf16", "torch bf16 compiled" or "torch compiled"."""
        return " ".join(["torch", *(["bf16"] if self.bf16 else []), *(["compiled"] if self.compiled else [])])

    @classmethod
    def of(cls, backend: str) -> Acceleration:
        """The acceleration of this name, see `backend`.

        Raises:
            ConfigError: there is no such backend.
        """
        choices = [cls(bf16, compiled) for bf16 in (False, True) for compiled in ("", CUDA_GRAPHS)]
        by_name = {choice.backend: choice for choice in choices}
        if backend not in by_name:
            raise ConfigError(f"There is no backend {backend!r}; choose one of {list(by_name)}.")
        return by_name[backend]


def placed(model: Model, device: torch.device) -> Model:
    """Moves a model in place and returns it; on a graphics card in channels-last layout, for bfloat16 convolutions."""
    model.to(device)
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def loaded(pixels: Tensor, device: torch.device | None) -> Tensor:
    """Bx3xHxW uint8 -> float32 on the device. Bytes go to a graphics card from pinned memory, while it computes."""
    if device is not None and device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True).to(torch.float32)


def look(model: AnomalyMaps, image: Tensor, which: Sequence[str]) -> AnomalyOutput:
    """`model(image, which)` without gradients, with the model's `acceleration`; see `AnomalyMaps.forward`."""
    acceleration = model.acceleration
    with torch.inference_mode(), torch.autocast(image.device.type, torch.bfloat16, enabled=acceleration.bf16):
        output: AnomalyOutput = _forward(model, acceleration)(image, tuple(which))
    return output


def _forward(model: AnomalyMaps, acceleration: Acceleration) -> Callable[..., Any]:
    """The model itself, or its compiled forward pass, which is kept for the next call."""
    if not acceleration.compiled:
        return model
    kept = _compiled.get(model)
    if kept is None or kept[0] != acceleration:
        forward = torch.compile(type(model).forward, mode=acceleration.compiled, dynamic=False)
        _compiled[model] = kept = (acceleration, forward)
    return partial(kept[1], model)


def in_float32(values: Tensor) -> AbstractContextManager[Any]:
    """Context without autocast on the device of `values`: bfloat16 loses differences of large numbers."""
    kind = values.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()
