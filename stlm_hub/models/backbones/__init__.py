"""Pretrained networks whose features a patch memory compares.

This file knows only names and channels. The module of a network is imported when the network is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class BackboneFacts(NamedTuple):
    """Facts that need no import of the backbone: name of its class, and the channels of its levels."""

    class_name: str
    channels: tuple[int, ...]


BACKBONES = {
    "efficientnet_lite0": BackboneFacts("EfficientNetLite0", (40, 112)),
    "mobile_sam": BackboneFacts("MobileSam", (128, 160)),
}
"""Backbones by the name of their module. Each returns a level at H/8 and one at H/16."""


class Backbone(Protocol):
    """A frozen network that returns feature levels, the finest first."""

    channels: tuple[int, ...]  # of each level
    strides: tuple[int, ...]  # input pixels per cell of each level

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Levels of Bx3xHxW RGB in [0, 255], H and W multiples of 16: each BxCx(H/stride)x(W/stride)."""

    def load_pretrained(self) -> None:
        """Loads the published weights.

        Raises:
            WeightsError: they cannot be obtained; the message says how to get them.
        """


def make_backbone(name: str) -> Backbone:
    """The backbone of this name, a module in eval mode without gradients, with random weights."""
    module = import_module(f".{name}", __name__)
    backbone: Backbone = getattr(module, BACKBONES[name].class_name)()
    return backbone
