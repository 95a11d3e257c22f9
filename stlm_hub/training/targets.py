"""What the teacher says of a batch, computed no more often than it has to be.

A photograph on which nothing was pasted is its own clean image, so both streams share one target; a clean image that
comes back unchanged in a later epoch keeps its features.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


class FeatureCache:
    """Least-recently-used store of level features in half precision, on the CPU.

    Args:
        max_bytes: memory it may take; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._entries: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Features of a key, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: str, features: dict[str, Tensor]) -> None:
        """Keeps features (half precision, CPU); forgets the oldest where memory runs out."""
        size = sum(f.numel() * f.element_size() for f in features.values())
        if not key or size > self.max_bytes or key in self._entries:
            return
        self._entries[key] = features
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, old = self._entries.popitem(last=False)
            self.bytes -= sum(f.numel() * f.element_size() for f in old.values())


class Targets:
    """Teacher features of the clean and of the pseudo-anomalous images of a batch.

    Every feature passes through half precision, kept or not, so that what is in the cache changes no loss: a resumed
    run, whose cache is empty, sees the same numbers.

    Args:
        teacher: Bx3xSxS float RGB in [0, 255] -> level features.
        cache_bytes: memory for features of clean images.
    """

    def __init__(self, teacher: nn.Module, cache_bytes: int) -> None:
        self.teacher = teacher
        self.cache = FeatureCache(cache_bytes)
        self.images_seen = 0  # by the teacher; what a test counts

    def __call__(self, batch: dict[str, Any], device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """
        Args:
            batch: see `data.collate`.

        Returns:
            Targets of the denoising stream (teacher of the clean images) and of the plain stream (teacher of the
            pseudo-anomalous images); level name -> BxCxhxw float32.
        """
        n = len(batch["key"])
        kept = [self.cache.get(key) if key else None for key in batch["key"]]
        missing = [i for i in range(n) if kept[i] is None]
        for i, features in zip(missing, self._teach(batch, "clean", missing, device), strict=True):
            kept[i] = features
            self.cache.put(batch["key"][i], {level: f.cpu() for level, f in features.items()})
        pasted = [i for i in range(n) if batch["pasted"][i]]
        changed = dict(zip(pasted, self._teach(batch, "pseudo", pasted, device), strict=True))
        clean = [features for features in kept if features is not None]
        pseudo = [changed.get(i, features) for i, features in enumerate(clean)]
        return _stack(clean, device), _stack(pseudo, device)

    def _teach(
        self, batch: dict[str, Any], which: str, indices: list[int], device: torch.device
    ) -> list[dict[str, Tensor]]:
        # On a CPU one photograph at a time costs no more, and the numbers do not depend on what else was missing.
        chunk = 1 if device.type == "cpu" else max(1, len(indices))
        result = []
        for start in range(0, len(indices), chunk):
            part = indices[start : start + chunk]
            self.images_seen += len(part)
            features = self.teacher(batch[which][part].to(device, torch.float32))
            result += [{level: f[j].half() for level, f in features.items()} for j in range(len(part))]
        return result


def _stack(features: list[dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    return {level: torch.stack([f[level].to(device).float() for f in features]) for level in features[0]}
