"""A model in PyTorch -> one ONNX graph: from resized pixels to maps, scores and distances, for any batch.

Resizing stays outside. Its area means at any ratio are no operator of ONNX, an approximation moves maps far beyond what
the parity gate allows, and OpenCV, which every runtime has for reading and drawing anyway, is exact and takes 1 ms.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.stlm.anomaly_maps import AnomalyMaps
from .lighter import lighter

OPSET = 20
MAX_BATCH = 1024
INSTALL = 'Exporting needs {}: pip install "stlm_hub[export]"'


class JudgingGraph(nn.Module):
    """Everything between resizing a photograph and comparing its score with a threshold."""

    def __init__(self, model: AnomalyMaps) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            pixels: BxHxWx3 uint8 RGB at the network's size.

        Returns:
            Maps BxMxHxW and scores BxM of `judging.shown`, in [0, 1], and distances from good photographs, Bx2.
        """
        shown = self.model.judging.shown
        seen = self.model(pixels.permute(0, 3, 1, 2).to(torch.float32), shown)
        maps = torch.cat([seen.maps[name].values for name in shown], dim=1)
        return maps, torch.stack([seen.maps[name].scores for name in shown], dim=1), seen.distances


def write_onnx(model: AnomalyMaps, path: Path) -> None:
    """Writes a model as an ONNX graph with the input `pixels` and the outputs `maps`, `scores` and `distances`.

    Raises:
        ConfigError: a package is missing, or the model has a minimum area.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(INSTALL.format(error.name)) from None
    if model.judging.minimum_area > 1:
        raise ConfigError(
            "Connected regions are no part of a graph, so a model with a minimum area cannot be exported; judge with "
            "PyTorch, or calibrate it without: stlm calibrate --minimum-area 0"
        )
    example = torch.zeros(2, *model.frame_size, 3, dtype=torch.uint8)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            JudgingGraph(lighter(model)),
            (example,),
            input_names=["pixels"],
            output_names=["maps", "scores", "distances"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
            opset_version=OPSET,
            dynamo=True,
        )
        assert program is not None
        program.save(path, external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own inside."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
