"""The device that networks run on."""

from __future__ import annotations

import torch

from ..errors import ConfigError


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device of this name; None: "cuda" if there is one, else "cpu".

    Raises:
        ConfigError: there is no such device, or it cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ConfigError(f'The device "{device}" cannot be used here ({reason}); use "cpu" or "cuda".') from error
