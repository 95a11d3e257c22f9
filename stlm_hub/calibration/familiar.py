"""Good photographs -> the distances at which a whole photograph is unfamiliar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import DataError
from ..models.familiarity import Description, Familiarity
from ..models.stlm.anomaly_maps import AnomalyMaps
from .threshold import unusual

FAMILIAR = 1.5
"""A photograph is unfamiliar above this many times the distance of the farthest good one that is not unusual."""
FOLDS = 4


def familiarity_limits(
    model: AnomalyMaps, good: Sequence[Description], disturbed: Sequence[Description]
) -> tuple[float, ...]:
    """The limits by content and by layout. A model that has none yet learns first what is familiar.

    Args:
        model: its familiarity is fitted here if it was never calibrated.
        good: what the photographs look like.
        disturbed: what the disturbed copies look like.

    Raises:
        DataError: most of the photographs are unfamiliar to a model that was calibrated before.
    """
    described = joined(good), joined(disturbed)
    before = model.judging.familiarity_limits
    return _widened(model.familiarity, before, *described) if before else _fitted(model.familiarity, *described)


def joined(described: Sequence[Description], device: torch.device | None = None) -> Description:
    """Descriptions of images, one each -> one of a batch."""
    return Description(*(torch.cat(parts).to(device) for parts in zip(*described, strict=True)))


def _fitted(familiarity: Familiarity, good: Description, disturbed: Description) -> tuple[float, ...]:
    """Fits to photographs and copies; the distance of each, for the limits, is from those of the other folds."""
    fold = torch.arange(len(good.content)) % FOLDS
    other = Familiarity(good.content.shape[1] // 2)
    distances = []
    for k in range(FOLDS):
        other.fit(joined([_where(good, fold != k), _where(disturbed, fold != k)]))
        distances.append(other(joined([_where(good, fold == k), _where(disturbed, fold == k)])))
    familiarity.fit(joined([good, disturbed], familiarity.content.mean.device))
    return _limits(torch.cat(distances).numpy())


def _widened(
    familiarity: Familiarity, before: tuple[float, ...], good: Description, disturbed: Description
) -> tuple[float, ...]:
    """Limits that take in a new setting of the same part: never below those before."""
    found = familiarity(joined([good, disturbed], familiarity.content.mean.device)).cpu()
    photographs = len(good.content)
    far = int((found[:photographs] > torch.tensor(before)).any(1).sum())
    if far > photographs / 2:
        raise DataError(
            f"{far} of {photographs} photographs do not look like those that the model learned from. Name photographs "
            "of the same part, or train a model of this one with: stlm finetune"
        )
    return tuple(max(limit, wider) for limit, wider in zip(before, _limits(found.numpy()), strict=True))


def _limits(distances: np.ndarray) -> tuple[float, ...]:
    """Nx2 distances of good photographs -> how far is too far."""
    return tuple(FAMILIAR * float(column[~unusual(column / (1 + column))].max()) for column in distances.T)


def _where(described: Description, wanted: torch.Tensor) -> Description:
    return Description(described.content[wanted], described.layout[wanted])
