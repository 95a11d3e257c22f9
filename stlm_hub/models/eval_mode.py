"""A model in eval mode, whatever mode it is in, without switching it."""

from __future__ import annotations

from copy import copy
from typing import TypeVar, cast

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def in_eval_mode(model: Module) -> Module:
    """The model itself, where all of it is in eval mode; else a copy that is, with the same tensors.

    The model is not switched for a while: two threads that ask at once would switch it under each other's hands, and
    one that trains it would find it in the wrong mode.
    """
    if not any(module.training for module in model.modules()):
        return model
    copies: dict[nn.Module, nn.Module] = {}
    other = cast("Module", _with_the_same_tensors(model, copies))
    other.eval()
    return other


def _with_the_same_tensors(module: nn.Module, copies: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy whose modules and dictionaries are its own, so that it has a mode of its own and keeps things itself."""
    if module not in copies:
        copies[module] = other = copy(module)
        for name, value in vars(module).items():
            if type(value) is dict:
                vars(other)[name] = dict(value)
        other._modules = {
            name: None if child is None else _with_the_same_tensors(child, copies)
            for name, child in module._modules.items()
        }
    return copies[module]
