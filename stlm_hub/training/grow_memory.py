"""A few more photographs of good parts -> a larger patch memory, in seconds. `fill_memory` fills an empty one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..models.patch_memory import PatchMemory, nearest_distances
from ..predict.frame import to_input
from ..predict.images import load_image
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again
from ..stlm import STLM
from .fill_memory import patches_to_remember
from .recalibrate import KNOWN

NEW_ENTRIES = 256
"""Most patches of one photograph that are added to the memory: those farthest from its entries."""


@torch.inference_mode()
def grown(model: STLM, memory: PatchMemory, photographs: Sequence[Path], nuisance: Nuisance) -> PatchMemory:
    """A larger memory: with patches of these photographs, and of a disturbed copy of each, that are new to it."""
    rng = np.random.default_rng(len(memory.entries))
    scale = model.judging.scale("memory")
    near = scale.typical if scale else 0.0
    entries, sources = memory.entries, memory.sources
    for path in photographs:
        image = load_image(path, bits=model.judging.bits)
        images = [image, photographed_again(image, rng, nuisance, model.frame_size)]
        patches = patches_to_remember(model, to_input(images, model.frame_size, entries.device)).flatten(0, 1)
        reduced = memory.reduced(patches)
        distances = nearest_distances(reduced, entries)
        added: list[torch.Tensor] = []
        while len(added) < NEW_ENTRIES and float(distances.max()) > near:
            farthest = reduced[distances.argmax()]
            added.append(farthest)
            distances = torch.minimum(distances, (reduced - farthest).norm(dim=1))
        own = distances[: len(reduced) // 2]
        if float(own.min()) >= KNOWN * near:  # so that `is_remembered` is true of the photograph
            added.append(reduced[own.argmax()])
        if added:
            number = int(sources.max()) + 1
            entries = torch.cat([entries, torch.stack(added)])
            sources = torch.cat([sources, sources.new_full((len(added),), number)])
    larger = PatchMemory(dataclasses.replace(memory.config, entries=len(entries))).to(entries.device)
    larger.load_state_dict(memory.state_dict() | {"entries": entries, "sources": sources})
    return larger.eval()
