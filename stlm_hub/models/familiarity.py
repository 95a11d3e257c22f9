"""How much a whole photograph looks like the good ones that a model learned from.

Anomaly maps compare patches. Each patch of a wall, a cat or an empty table may be familiar; as a whole such a
photograph is far from any good one. Content (what is there) and layout (where it is) are compared separately: a part
that lies upside down has familiar content.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .acceleration import in_float32

COMPONENTS = 8
"""Directions in which good photographs may differ, each with a variance of its own."""
LAYOUT = 3
"""Rows and columns of the grid on which the layout of a photograph is described."""


class Description(NamedTuple):
    """What familiarity compares: `content` Bx2D (means, then standard deviations) and `layout` Bx9D, float32."""

    content: Tensor
    layout: Tensor


def describe(patches: Tensor, weight: Tensor | None = None) -> Description:
    """Mean and standard deviation of patch features over a photograph, and their means on a 3x3 grid.

    Args:
        patches: BxhxwxD.
        weight: hxw in [0, 1], how much each patch counts; None: all count alike. A grid cell without weight is 0.
    """
    values = patches.float()
    if weight is None:
        flat = values.flatten(1, 2)
        layout = F.adaptive_avg_pool2d(values.permute(0, 3, 1, 2), LAYOUT).flatten(1)
        return Description(torch.cat([flat.mean(1), flat.std(1)], dim=1), layout)
    share = weight[..., None] / weight.sum()
    mean = (values * share).sum((1, 2))
    spread = ((values - mean[:, None, None]).square() * share).sum((1, 2)).sqrt()
    pooled = F.adaptive_avg_pool2d((values * weight[..., None]).permute(0, 3, 1, 2), LAYOUT)
    counted = F.adaptive_avg_pool2d(weight[None, None], LAYOUT)
    return Description(torch.cat([mean, spread], dim=1), (pooled / counted.clamp_min(1e-6)).flatten(1))


class Familiarity(nn.Module):
    """Distance of a photograph from good ones, by content and by layout. Its weights take some kilobytes.

    Args:
        channels: D of the patches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content = NormalDistribution(2 * channels)
        self.layout = NormalDistribution(LAYOUT**2 * channels)

    def forward(self, described: Description) -> Tensor:
        """Descriptions -> Bx2 float32: distance by content and by layout, about 1 for a typical good photograph."""
        with in_float32(described.content):
            return torch.stack([self.content(described.content), self.layout(described.layout)], dim=1)

    def fit(self, described: Description) -> Familiarity:
        """Fits both distributions, in place, to descriptions of at least 4 good photographs. Returns the module."""
        self.content.fit(described.content)
        self.layout.fit(described.layout)
        return self


class NormalDistribution(nn.Module):
    """Mahalanobis distance with a variance for each of a few directions and one variance for all others.

    This is probabilistic PCA (Tipping and Bishop, 1999), which can be fitted to few samples of many dimensions.

    Args:
        size: dimensions N of a sample.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.zeros(size, COMPONENTS))
        self.register_buffer("variances", torch.zeros(COMPONENTS))
        self.register_buffer("rest", torch.ones(()))

    def forward(self, samples: Tensor) -> Tensor:
        """BxN -> B float32: the distance. The few directions weigh as much as all others together."""
        centred = samples - self.mean
        along = centred @ self.components
        across = (centred.square().sum(1) - along.square().sum(1)).clamp_min(0) / self.rest
        dimensions_across = centred.shape[1] - COMPONENTS
        squares = (along.square() / (self.variances + self.rest)).mean(1) + across / dimensions_across
        return (squares / 2).sqrt()

    def fit(self, samples: Tensor) -> None:
        """Fits the distribution to KxN samples, in place. Few samples give K // 4 directions only."""
        mean = samples.mean(0)
        _, values, directions = torch.linalg.svd(samples - mean, full_matrices=False)
        variances = values.square() / (len(samples) - 1)
        known = min(COMPONENTS, max(1, len(samples) // 4))
        self.mean.copy_(mean)
        self.components.zero_()[:, :known] = directions[:known].T
        self.variances.zero_()[:known] = variances[:known]
        self.rest.copy_((variances[known:].sum() / (samples.shape[1] - known)).clamp_min(1e-12))
