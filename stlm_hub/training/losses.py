"""The losses of STLM (paper, equations 2 to 8); each carries equal weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL_GAMMA = 4.0


def cosine_distance(features: Mapping[str, Tensor], others: Mapping[str, Tensor], hardest_share: float = 1.0) -> Tensor:
    """Sum over levels of the mean cosine distance. Gradients flow into both arguments.

    Args:
        features: level name -> BxCxhxw features.
        others: at least the same levels, with the same shapes.
        hardest_share: the mean is over this share of each image's positions, those farthest apart, in (0, 1]. A small
            anomaly covers so few positions that it hardly changes the mean over all (cf. the hard feature loss of
            EfficientAD, Batzner et al. 2024, section 3.2).

    Returns:
        Scalar >= 0.
    """
    distances = []
    for level, feature in features.items():
        distance = 1 - F.cosine_similarity(feature.float(), others[level].float(), dim=1)
        distances.append(_mean_of_hardest(distance, hardest_share))
    return torch.stack(distances).sum()


def cosine_distillation(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], hardest_share: float = 1.0
) -> Tensor:
    """`cosine_distance` to a teacher, which gets no gradient (equations 2 to 4)."""
    fixed = {level: feature.detach() for level, feature in teacher.items()}
    return cosine_distance(student, fixed, hardest_share)


def focal(logits: Tensor, mask: Tensor, gamma: float = FOCAL_GAMMA, hardest_share: float = 1.0) -> Tensor:
    """Mean of -(1 - p)^gamma log(p), p the probability of the right class (equations 5 and 6).

    Args:
        logits: BxNxhxw.
        mask: BxNxhxw of 0 and 1.
        hardest_share: the mean is over this share of each image's positions, those with the largest values, in (0, 1].

    Returns:
        Scalar >= 0, finite for any logits.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits.float(), mask.float(), reduction="none")
    return _mean_of_hardest((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy, hardest_share)


def l1(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of |mask - sigmoid(logits)| (equation 7, whose minus sign is a slip: the loss would reward errors)."""
    return (mask.float() - logits.float().sigmoid()).abs().mean()


def mask_on_grid(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask at the size of the logit map, bilinear and cut at 1/2 as the paper's code has it.

    The middle of a cell decides, so anomalies keep their area on average, however thin they are. If half of a cell had
    to be anomalous, most anomalies thinner than a cell would count as normal.

    Args:
        mask: Bx1xHxW of 0 and 1.
        size: (h, w) of the logits.

    Returns:
        Bx1xhxw float32 of 0 and 1.
    """
    return (F.interpolate(mask.float(), size=size, mode="bilinear", align_corners=False) >= 0.5).float()


def _mean_of_hardest(values: Tensor, share: float) -> Tensor:
    """Bx... -> scalar: the mean over each image's largest values, this share of them and at least one."""
    if share >= 1:
        return values.mean()
    each = values.flatten(1)
    return each.topk(max(1, round(share * each.shape[1])), dim=1, sorted=False).values.mean()
