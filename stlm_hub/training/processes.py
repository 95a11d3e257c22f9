"""The processes of a distributed training: `accelerate launch --multi_gpu --num_processes N`, on processors, too.

Each has its share of a step's batch. So that their losses are those of one process with the whole batch, BatchNorm
normalises with the statistics of all, and losses are the mean over all.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

from ..errors import TrainingError


def processes() -> PartialState:
    """Which process of how many this is. The first call joins the others.

    Accelerate takes processors for several processes only where it is told to, and would else train the whole in each.
    """
    on_processors = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    if on_processors:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # what `Accelerator` reads
    return PartialState(cpu=on_processors)


LOST = (
    "Another process of this training has ended, or its launcher has ended all; see what they say, and give the same "
    "command again: it goes on from the last checkpoint."
)


@contextmanager
def told_of_lost_ones() -> Iterator[None]:
    """
    Raises:
        TrainingError: another process has ended, so this one cannot go on.
    """
    if processes().num_processes == 1:
        yield
        return
    with _ended_by_launcher():
        try:
            yield
        except RuntimeError as error:  # what gloo and NCCL raise has no class of its own
            if not any(word in str(error) for word in ("gloo", "NCCL", "Connection", "peer")):
                raise
            raise TrainingError(LOST) from error


@contextmanager
def _ended_by_launcher() -> Iterator[None]:
    """While it lasts, SIGTERM is a TrainingError: a launcher that sees the loss first sends it to the others."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TrainingError(LOST)

    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, which have one size. `nn.SyncBatchNorm` needs graphics cards."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        n = values.numel() // values.shape[1] * dist.get_world_size()
        mean = _total(values.sum((0, 2, 3))) / n
        centred = values - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / n
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * n / max(1, n - 1), momentum)
        found = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            found = found * self.weight[:, None, None] + self.bias[:, None, None]
        return found.to(x.dtype)


@contextmanager
def shared_batch_norm(module: nn.Module) -> Iterator[None]:
    """While it lasts, the BatchNorm layers of a module see the batches of all processes. Parameters stay."""
    layers = [layer for layer in module.modules() if type(layer) is nn.BatchNorm2d]
    if processes().num_processes == 1:
        layers = []
    for layer in layers:
        layer.__class__ = SharedBatchNorm2d
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm2d


class _Total(torch.autograd.Function):
    """Sum over processes; the gradient is that of the sum of their losses."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _total(x: Tensor) -> Tensor:
    total: Tensor = _Total.apply(x)
    return total
