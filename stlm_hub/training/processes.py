"""The processes of a distributed training: `accelerate launch --multi_gpu --num_processes N`, also on processors.

Each process has a share of the batch of a step. BatchNorm normalises with the statistics of all shares, and losses are
means over all processes, so the losses are those of one process with the whole batch.
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
    """Rank of this process and number of all. The first call connects them.

    Accelerate must be told to use several processes on processors; else each process would train on its own.
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
    """Context that turns the loss of another process into a TrainingError.

    Raises:
        TrainingError: another process has ended, so this one cannot go on.
    """
    if processes().num_processes == 1:
        yield
        return
    with _ended_by_launcher():
        try:
            yield
        except RuntimeError as error:  # gloo and NCCL raise no class of their own
            if not any(word in str(error) for word in ("gloo", "NCCL", "Connection", "peer")):
                raise
            raise TrainingError(LOST) from error


@contextmanager
def _ended_by_launcher() -> Iterator[None]:
    """Context in which SIGTERM raises TrainingError: a launcher that notices a lost process sends it to the others."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TrainingError(LOST)

    if threading.current_thread() is not threading.main_thread():  # no handler can be set there
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, of equal size. `nn.SyncBatchNorm` works on graphics cards only."""

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
        normalised = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)


@contextmanager
def shared_batch_norm(module: nn.Module) -> Iterator[None]:
    """Context in which the BatchNorm layers of a module are `SharedBatchNorm2d`, with the same parameters."""
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
    """Sum over processes; its gradient is that of the sum of the processes' losses."""

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
    """Sum of a tensor over all processes, same shape, with a gradient."""
    total: Tensor = _Total.apply(x)
    return total
