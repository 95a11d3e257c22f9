"""What a few photographs of good parts show, on two backbones, and how far from it is too far.

In the manner of PatchCore with few photographs and of WinCLIP's reference memory (arXiv 2106.08265, 2303.14814), on the
backbones at hand: EfficientNet-lite0 and MobileSAM's stages. Copies stand in for photographs that are missing: turned
by quarters, and disturbed as a camera does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.backbones import BACKBONES
from ..models.patch_memory import PatchMemory, principal_components
from ..models.stlm.config import PatchMemoryConfig
from ..models.stlm.judging import Judging
from ..predict.frame import resize_image, to_input
from ..pseudo_anomalies.nuisance import Nuisance, photographed_again

SIDE = 320
"""The frame has about as many pixels as a square of this side, in the aspect of the references."""
STEP = 32
"""Pixels that the frame's sides are multiples of."""
LONGEST = 4
"""Most times that one side of the frame is longer than the other."""
TURNS = 4
"""Copies of each reference, turned by quarters; the first is not turned."""
DISTURBED = 2
"""Disturbed copies of each reference in the memory."""
HELD_BACK = 4
"""Further disturbed copies, of all references together, that no memory holds: the same part photographed again."""
MOST_ENTRIES = 8_000
"""Patches that are remembered: those of the references themselves, and of the copies as many as there is room for."""
CHANNELS = 128
"""Principal components of patches that are compared, as in a model's memory."""
FACTOR = 3.0
"""Of a single reference: another good part may be this many times as far from it as itself photographed again.

It is chosen, not measured: one photograph does not tell how much parts differ.
"""
SMALLEST = 1e-6
"""Least distance that counts as one."""


class ReferenceMemory:
    """Patches of references and of their copies, and the limit of distances to them.

    Args:
        images: HxWx3 uint8 RGB of different good parts, of any sizes; all are squeezed to one frame.
        backbones: names of `BACKBONES`; the mean of their distances counts.
        load: whether their pretrained weights are set; tests do without.
        device: where they run.
        on_image: called with (done, total) after each copy of a reference.

    Raises:
        WeightsError: the weights of a backbone cannot be had.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        *,
        backbones: Sequence[str] = tuple(BACKBONES),
        load: bool = True,
        device: torch.device | None = None,
        on_image: Callable[[int, int], None] | None = None,
    ) -> None:
        self.frame_size = frame([(image.shape[0], image.shape[1]) for image in images])
        self._device = device
        self._references = [resize_image(image, self.frame_size) for image in images]
        self._memories = [self._empty(name, load) for name in backbones]
        self._weights = [1.0] * len(self._memories)
        self._limit = self._fill(images, on_image or (lambda done, total: None))

    @torch.inference_mode()
    def see(self, framed: np.ndarray) -> list[Tensor]:
        """HxWx3 uint8 with sides that are multiples of 16 -> 1x(H/8)x(W/8)xD of each backbone."""
        pixels = to_input([framed], (framed.shape[0], framed.shape[1]), self._device)
        return [memory.patches(pixels) for memory in self._memories]

    @torch.inference_mode()
    def limits(self, seen: Sequence[Tensor], without: int = -1) -> tuple[Tensor, Tensor]:
        """How far a photograph is from the references, and its highest values' mean, in limits.

        Args:
            seen: of `see`, in `frame_size`.
            without: number of the reference whose patches do not count, or -1.

        Returns:
            1x1xHxW of the frame, 0 where it looks the same, 1 at the limit; and one number.
        """
        in_limits = self._distances(seen, without) / self._limit
        return in_limits, peak(in_limits)

    def number_of(self, framed: np.ndarray) -> int:
        """Which reference this is, if there are others to judge it by; else -1."""
        if len(self._references) > 1:
            for number, reference in enumerate(self._references):
                if np.array_equal(framed, reference):
                    return number
        return -1

    def __len__(self) -> int:
        return len(self._references)

    def _empty(self, name: str, load: bool) -> PatchMemory:
        memory = PatchMemory(PatchMemoryConfig(1, CHANNELS, name))
        if load:
            memory.backbone.load_pretrained()
        return memory.eval().to(self._device)

    @torch.inference_mode()
    def _fill(self, images: Sequence[np.ndarray], on_image: Callable[[int, int], None]) -> float:
        """Remembers the references and their copies, and measures how far they are from one another."""
        random, nuisance = np.random.default_rng(0), Nuisance()
        again = -(-HELD_BACK // len(images))
        copies: list[list[Tensor]] = []  # of each copy what each backbone sees
        held_back: list[list[Tensor]] = []
        sources: list[int] = []
        total = len(images) * (TURNS + DISTURBED + again)
        for number, (image, framed) in enumerate(zip(images, self._references, strict=True)):
            shown = [np.ascontiguousarray(np.rot90(framed, turn)) for turn in range(TURNS)]
            shown += [
                resize_image(photographed_again(image, random, nuisance, self.frame_size), self.frame_size)
                for _ in range(DISTURBED + again)
            ]
            for i, copy in enumerate(shown):
                (copies if i < TURNS + DISTURBED else held_back).append(self.see(copy))
                on_image(number * len(shown) + i + 1, total)
            sources += [number] * (TURNS + DISTURBED)
        for b, memory in enumerate(self._memories):
            _remember(memory, [seen[b] for seen in copies], sources)
        return self._measure(copies[:: TURNS + DISTURBED], held_back)

    def _measure(self, references: Sequence[list[Tensor]], held_back: Sequence[list[Tensor]]) -> float:
        """Sets the backbones' weights, so that each counts alike; the limit of the mean of their distances."""
        single = len(references) == 1
        judged = [(seen, -1) for seen in held_back] if single else [(seen, n) for n, seen in enumerate(references)]
        for b, memory in enumerate(self._memories):
            usual = float(torch.stack([memory.distances(seen[b], [n]).mean() for seen, n in judged]).mean())
            self._weights[b] = 1 / max(usual, SMALLEST)
        distances = [self._distances(seen, n) for seen, n in judged]
        highest = max(float(peak(values)) for values in distances)
        if single:
            typical = float(torch.stack([values.mean() for values in distances]).mean())
            return max(typical + FACTOR * (highest - typical), SMALLEST)
        # Parts that are alike still differ as much as a camera does.
        return max(highest, *(float(peak(self._distances(seen, -1))) for seen in held_back), SMALLEST)

    def _distances(self, seen: Sequence[Tensor], without: int) -> Tensor:
        """Weighted mean of the backbones' distances, 1x1xHxW of the frame. Arguments: see `limits`."""
        found = [
            weight * memory.distances(patches, [without])
            for memory, patches, weight in zip(self._memories, seen, self._weights, strict=True)
        ]
        return F.interpolate(torch.stack(found).mean(0), size=self.frame_size, mode="bilinear", align_corners=False)


def peak(values: Tensor) -> Tensor:
    """1x1xHxW -> the mean of the highest values, as many as make a model's score."""
    return values.flatten().topk(min(Judging().score_top_k, values.numel())).values.mean()


def frame(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of the frame for photographs of these shapes: their median aspect, `SIDE` squared pixels."""
    aspect = float(np.median([math.log(height / width) for height, width in shapes]))
    aspect = min(max(aspect, -math.log(LONGEST)), math.log(LONGEST))
    height, width = (round(SIDE * math.exp(half) / STEP) * STEP for half in (aspect / 2, -aspect / 2))
    return height, width


def _remember(memory: PatchMemory, copies: Sequence[Tensor], sources: Sequence[int]) -> None:
    """Fills a memory: 1xhxwxD of each copy and the number of its reference; the first copy of each is itself."""
    patches = torch.cat([seen.flatten(0, 2) for seen in copies])
    cells = len(patches) // len(copies)
    itself = torch.arange(len(copies)) % (TURNS + DISTURBED) == 0
    # By chance among the copies, behind all of the references themselves.
    order = torch.rand(len(patches), generator=torch.Generator().manual_seed(0)) - itself.float().repeat_interleave(
        cells
    )
    kept = order.argsort()[:MOST_ENTRIES].to(patches.device)
    numbers = torch.tensor(sources, dtype=torch.int32, device=patches.device).repeat_interleave(cells)
    memory.mean = patches.mean(0)
    memory.components = principal_components(patches - memory.mean, CHANNELS)
    memory.entries, memory.sources = memory.reduced(patches[kept]), numbers[kept]
