"""How much a whole photograph looks like those that a model learned from.

Anomaly maps compare patches. A wall, a cat or a table without the part may hold patches that are all well known; as a
whole they are far from any good photograph. The distance is Mahalanobis' in the few directions in which good
photographs differ, with one common variance for all other directions (probabilistic PCA, Tipping and Bishop 1999).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COMPONENTS = 8
"""Directions in which good photographs may differ, each with a variance of its own."""


def describe(patches: Tensor) -> Tensor:
    """BxhxwxD patch features -> Bx2D float32: mean and standard deviation of each feature over the photograph."""
    values = patches.flatten(1, 2).float()
    return torch.cat([values.mean(1), values.std(1)], dim=1)


class Familiarity(nn.Module):
    """Mean, directions and variances of `describe` over good photographs; a few kilobytes.

    Args:
        channels: D of the patches.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * channels))
        self.register_buffer("components", torch.zeros(2 * channels, COMPONENTS))
        self.register_buffer("variances", torch.ones(COMPONENTS))
        self.register_buffer("rest", torch.ones(()))

    def forward(self, patches: Tensor) -> Tensor:
        """BxhxwxD patch features -> B float32: distance from good photographs, about 1 for a typical one."""
        return self.distance(describe(patches))

    def distance(self, described: Tensor) -> Tensor:
        """`forward` from what `describe` returns."""
        centred = described - self.mean
        along = centred @ self.components
        across = (centred.square().sum(1) - along.square().sum(1)).clamp_min(0) / self.rest
        free = centred.shape[1] - COMPONENTS
        squares = (along.square() / (self.variances + self.rest)).sum(1) + across * (COMPONENTS / free)
        return (squares / (2 * COMPONENTS)).sqrt()

    def fit(self, described: Tensor) -> Familiarity:
        """Learns from Nx2D descriptions of good photographs, N at least 4; changes the module in place."""
        mean = described.mean(0)
        _, values, directions = torch.linalg.svd(described - mean, full_matrices=False)
        variances = values.square() / (len(described) - 1)
        # Of few photographs no more directions are known than a quarter of their number.
        known = min(COMPONENTS, max(1, len(described) // 4))
        kept = torch.zeros_like(self.variances)
        kept[:known] = variances[:known]
        components = torch.zeros_like(self.components)
        components[:, :known] = directions[:known].T
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.variances.copy_(kept)
        self.rest.copy_((variances[known:].sum() / (described.shape[1] - known)).clamp_min(1e-12))
        return self
