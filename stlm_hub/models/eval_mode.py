"""A model in eval mode, without switching the model itself."""

from __future__ import annotations

from copy import copy
from typing import TypeVar, cast

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def in_eval_mode(model: Module) -> Module:
    """The model itself if all of it is in eval mode, else a copy in eval mode that shares its tensors.

    Switching the model for a while would not do: another thread that predicts or trains with it at the same time would
    find it in the wrong mode.
    """
    if not any(module.training for module in model.modules()):
        return model
    copies: dict[nn.Module, nn.Module] = {}
    copied = cast("Module", _copy_sharing_tensors(model, copies))
    copied.eval()
    return copied


def _copy_sharing_tensors(module: nn.Module, copies: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy with submodules and dictionaries of its own, so that modes and caches are separate; tensors are shared.

    Args:
        module: to copy.
        copies: module -> its copy, so that a module that occurs twice is copied once.
    """
    if module not in copies:
        copies[module] = copied = copy(module)
        for name, value in vars(module).items():
            if type(value) is dict:
                vars(copied)[name] = dict(value)
        copied._modules = {
            name: None if child is None else _copy_sharing_tensors(child, copies)
            for name, child in module._modules.items()
        }
    return copies[module]
