"""The familiarity limits: distances from good photographs above which a whole photograph is unfamiliar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..errors import DataError
from ..models.familiarity import Description, Familiarity
from ..models.stlm.anomaly_maps import AnomalyMaps
from .threshold import unusual

FAMILIAR = 1.5
"""The limit, in distances of the farthest good photograph that is not unusual."""
FOLDS = 4
"""Of the cross-validation that measures distances of photographs that were not fitted to."""


class Familiar(NamedTuple):
    """What is familiar.

    limits: by content and by layout. normal: of each good photograph, as a model that does not know it has it: the
    larger of its distances in limits.
    """

    limits: tuple[float, ...]
    normal: tuple[float, ...]


def what_is_familiar(model: AnomalyMaps, good: Sequence[Description], disturbed: Sequence[Description]) -> Familiar:
    """The limits from good photographs.

    Args:
        model: its familiarity is fitted here, in place, if it has no limits yet.
        good: a description of each photograph, with a batch of one.
        disturbed: a description of each disturbed copy.

    Raises:
        DataError: most of the photographs are unfamiliar to a model that was calibrated before.
    """
    before = model.judging.familiarity_limits
    if before:
        return _widened(model.familiarity, before, joined(good), joined(disturbed))
    return _fitted(model.familiarity, joined(good), joined(disturbed))


def joined(descriptions: Sequence[Description], device: torch.device | None = None) -> Description:
    """Several descriptions -> one description of all their images, on a device."""
    return Description(*(torch.cat(parts).to(device) for parts in zip(*descriptions, strict=True)))


def _fitted(familiarity: Familiarity, good: Description, disturbed: Description) -> Familiar:
    """Fits familiarity, in place, to photographs and copies. Distances are cross-validated."""
    fold = torch.arange(len(good.content)) % FOLDS
    of_other_folds = Familiarity(good.content.shape[1] // 2)
    of_good, of_disturbed = torch.empty(2, len(fold), 2)
    for k in range(FOLDS):
        of_other_folds.fit(joined([_where(good, fold != k), _where(disturbed, fold != k)]))
        of_good[fold == k] = of_other_folds(_where(good, fold == k))
        of_disturbed[fold == k] = of_other_folds(_where(disturbed, fold == k))
    familiarity.fit(joined([good, disturbed], familiarity.content.mean.device))
    return _in_limits(_limits(torch.cat([of_good, of_disturbed]).numpy()), of_good.numpy())


def _widened(
    familiarity: Familiarity, before: tuple[float, ...], good: Description, disturbed: Description
) -> Familiar:
    """Limits for further photographs of the same part, perhaps in another light: never below those before."""
    distances = familiarity(joined([good, disturbed], familiarity.content.mean.device)).cpu()
    photographs = len(good.content)
    far = int((distances[:photographs] > torch.tensor(before)).any(1).sum())
    if far > photographs / 2:
        raise DataError(
            f"{far} of {photographs} photographs do not look like those that the model learned from. Name photographs "
            "of the same part, or train a model of this one with: stlm finetune"
        )
    limits = tuple(max(limit, wider) for limit, wider in zip(before, _limits(distances.numpy()), strict=True))
    return _in_limits(limits, distances[:photographs].numpy())


def _in_limits(limits: tuple[float, ...], distances: np.ndarray) -> Familiar:
    """The limits, with Nx2 distances of good photographs in them."""
    return Familiar(limits, tuple((distances / np.array(limits)).max(1).tolist()))


def _limits(distances: np.ndarray) -> tuple[float, ...]:
    """Nx2 distances of good photographs -> the two limits."""
    return tuple(FAMILIAR * float(column[~unusual(column / (1 + column))].max()) for column in distances.T)


def _where(description: Description, wanted: torch.Tensor) -> Description:
    """The description of some images of a batch; `wanted`: B bool."""
    return Description(description.content[wanted], description.layout[wanted])
