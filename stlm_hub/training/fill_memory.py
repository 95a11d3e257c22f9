"""Normal photographs -> the entries of a model's memory: patches that lie far from one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import TrainingError
from ..models.backbones.efficientnet_lite0 import ImageNetEncoder
from ..models.patch_memory import patch_features
from ..models.stlm.config import STLMConfig
from ..models.stlm.network import STLMNetwork
from ..predict.photographs import load_each
from ..predict.predictor import as_input
from ..starting_weights.efficientnet_lite0 import load_imagenet_weights

TOLD_EVERY = 256  # entries
CANDIDATES = 60_000
"""Patches that entries are chosen from, a random share of each photograph: more of them hold little that is new."""


@torch.inference_mode()
def fill_memory(
    model: STLMNetwork,
    photographs: Sequence[Path],
    seed: int,
    on_image: Callable[[int, int], None] | None = None,
    on_entry: Callable[[int, int], None] | None = None,
) -> None:
    """Fills `model.memory` in place.

    Patches are reduced to their principal components; entries are a greedy coreset of them (PatchCore, section 3.2).

    Args:
        model: with a memory, trained, in eval mode.
        photographs: of good parts, those that it was trained on.
        seed: of the choice of candidates. Photographs are not turned as in training: a held-out one, which lies as they
            do, would be farther from a memory that has to hold all its turns.
        on_image: told (done, total) after each photograph.
        on_entry: told (done, total) before the entries are chosen and after every 256 of them.

    Raises:
        TrainingError: see `check_memory`.
    """
    check_memory(model.config, len(photographs))
    memory = model.memory
    assert memory is not None
    wanted, channels = memory.entries.shape
    random = torch.Generator().manual_seed(seed)
    share = -(-max(CANDIDATES, wanted) // len(photographs))
    candidates = []
    for image in load_each(photographs, on_image):
        features = model.memory_features(as_input([image], model))
        patches = patch_features(features)[0].flatten(0, 1).cpu()
        candidates.append(patches[torch.randperm(len(patches), generator=random)[:share]])
    patches = torch.cat(candidates)
    mean = patches.mean(0)
    components = principal_components(patches - mean, channels)
    reduced = (patches - mean) @ components
    memory.mean.copy_(mean)
    memory.components.copy_(components)
    memory.entries.copy_(reduced[greedy_coreset(reduced, wanted, on_entry)])


def patches_of(model: STLMConfig, photographs: int) -> int:
    """How many patches a memory can choose its entries from."""
    cell = 8 if model.memory_encoder != "plain" or "stage1" in model.memory_levels else 16
    return photographs * (model.image_size // cell) ** 2


def check_memory(model: STLMConfig, photographs: int) -> None:
    """Raises TrainingError where so many photographs have fewer patches than the memory has entries."""
    patches = patches_of(model, photographs)
    if patches < model.memory_entries:
        raise TrainingError(
            f"A memory of {model.memory_entries} entries needs as many patches, but {photographs} photographs have "
            f"{patches}; set memory_entries lower or add photographs."
        )


def check_memory_encoder(model: STLMConfig) -> None:
    """Raises WeightsError where the weights of the memory's encoder cannot be had: to be asked before hours of work."""
    if model.memory_entries and model.memory_encoder != "plain":
        load_imagenet_weights(ImageNetEncoder().network)


def principal_components(centred: Tensor, channels: int) -> Tensor:
    """NxD with mean 0 -> Dx`channels`: orthonormal directions of the largest variance, the largest last."""
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return vectors[:, -channels:]


def greedy_coreset(points: Tensor, n: int, on_entry: Callable[[int, int], None] | None = None) -> Tensor:
    """Indices of `n` points, each the farthest from those before it; the first is the farthest from the mean.

    Args:
        points: NxD, N at least `n`.
        on_entry: see `fill_memory`.

    Returns:
        n indices, int64; no point of the set is farther from a chosen one than at most twice the smallest possible
        distance (Gonzalez 1985).
    """
    squares = points.square().sum(1)
    newest = (points - points.mean(0)).square().sum(1).argmax()
    nearest = torch.full((len(points),), torch.inf)
    chosen = []
    for done in range(n):
        if on_entry and done % TOLD_EVERY == 0:
            on_entry(done, n)
        chosen.append(newest)
        distance = torch.addmv(squares, points, points[newest], alpha=-2) + squares[newest]
        nearest = torch.minimum(nearest, distance)
        nearest[newest] = -torch.inf  # rounding must not choose it again
        newest = nearest.argmax()
    return torch.stack(chosen)
