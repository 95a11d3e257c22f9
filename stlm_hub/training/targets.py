"""The teacher's features of a batch, computed as seldom as possible.

If nothing was pasted on a photograph, both streams share one target. Features of a clean image that can come back
unchanged in a later epoch are cached.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


class FeatureCache:
    """Least-recently-used cache of level features.

    Args:
        max_bytes: limit of its memory; 0: nothing is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._entries: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Features of a key; None: they are not cached."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: str, features: dict[str, Tensor]) -> None:
        """Keeps features, half precision on the CPU. The least recently used ones go if memory runs out."""
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

    Every feature is rounded to half precision, cached or not. So the losses do not depend on the cache, which is empty
    in a resumed run.

    Args:
        teacher: Bx3xhxw float RGB in [0, 255] -> level features.
        cache_bytes: limit of the memory for features of clean images.
    """

    def __init__(self, teacher: nn.Module, cache_bytes: int) -> None:
        self.teacher = teacher
        self.cache = FeatureCache(cache_bytes)
        self.images_seen = 0  # by the teacher; for tests

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
        """The teacher's features of some images of a batch, each in half precision; `which`: "clean" or "pseudo"."""
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
    """Features of B images, CxhxW each -> level name -> BxCxhxw float32 on the device."""
    return {level: torch.stack([f[level].to(device).float() for f in features]) for level in features[0]}
