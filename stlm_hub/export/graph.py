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
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.stlm.anomaly_maps import AnomalyMaps
from .lighter import lighter

OPSET = 20
MAX_BATCH = 1024
SCOPES = "pkg.torch.onnx.name_scopes"
INSTALL = 'Exporting needs {}: pip install "stlm_hub[export]"'


class JudgingGraph(nn.Module):
    """Everything between resizing a photograph and comparing its score with a threshold, of a lighter copy."""

    def __init__(self, model: AnomalyMaps) -> None:
        super().__init__()
        model = lighter(model)
        self.bounded = model.judging.minimum_area > 1
        model.judging = model.judging.replace(minimum_area=0)
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            pixels: BxHxWx3 uint8 RGB at the network's size.

        Returns:
            Maps BxMxHxW and scores BxM of `judging.shown`, in [0, 1], and distances from good photographs, Bx2. Where a
            model has a minimum area, the maps behind them in limits, BxKxHxW in the order of `judging.behind`, -inf
            outside the region that counts:
            connected regions are no part of a graph, so the runtime bounds scores by them.
        """
        model, shown = self.model, self.model.judging.shown
        size = (pixels.shape[1], pixels.shape[2])
        image = pixels.permute(0, 3, 1, 2).to(torch.float32)
        raw, description = model.raw(image, model.needed(shown))
        found = [model.scored(name, raw, size) for name in shown]
        outputs = (
            torch.cat([seen.values for seen in found], dim=1),
            torch.stack([seen.scores for seen in found], dim=1),
            model.familiarity(description),
        )
        if not self.bounded:
            return outputs
        limits = [model.counted(model.limits(name, raw[name], size).values) for name in model.judging.behind]
        return *outputs, torch.cat(limits, dim=1)


def write_onnx(model: AnomalyMaps, path: Path) -> None:
    """Writes a model as an ONNX graph with the input `pixels` and the outputs that `JudgingGraph` returns.

    Raises:
        ConfigError: a package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(INSTALL.format(error.name)) from None
    example = torch.zeros(2, *model.frame_size, 3, dtype=torch.uint8)
    graph = JudgingGraph(model)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=["pixels"],
            output_names=["maps", "scores", "distances", *(["limits"] if graph.bounded else [])],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
            opset_version=OPSET,
            dynamo=True,
        )
        assert program is not None
        program.save(path, external_data=False)


def modules(node: Any) -> str:
    """The modules that a node of ONNX was exported from, as the exporter notes them, and the weights that it takes."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    return " ".join([scopes, *node.input])


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
