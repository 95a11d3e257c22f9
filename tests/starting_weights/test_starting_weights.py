"""Our own file of starting weights: what is saved comes back, anything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_weights import random_weights, same_weights
from safetensors.torch import save_file
from torch import Tensor

from stlm_hub.errors import WeightsError
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights.formats import read_starting_weights
from stlm_hub.starting_weights.official_names import from_mobile_sam
from stlm_hub.starting_weights.starting_weights import StartingWeights
from train.ablations.masks import mask_head_of

pytestmark = pytest.mark.filterwarnings("ignore")  # importing mobile_sam warns about timm's registry


def test_weights_are_loaded_into_all_modules(official: StartingWeights) -> None:
    encoder, decoder = ImageEncoder(), MaskDecoder()
    official.load_into(encoder, decoder)
    states = [dict(module.state_dict()) for module in (encoder, decoder, mask_head_of(official))]
    assert same_weights(official, StartingWeights(*states[:2], mask_head=states[2], prompts=official.prompts))


def test_weights_without_a_mask_head_are_complete_for_a_training(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Files of earlier versions have no mask head. Only the ablation of masks needs one."""
    old = from_mobile_sam({name: tensor for name, tensor in state.items() if "mask_decoder.output_" not in name})
    old.save(tmp_path / "starting.safetensors")
    old = StartingWeights.load(tmp_path / "starting.safetensors")
    assert old.mask_head is None
    old.load_into(ImageEncoder(), MaskDecoder())
    with pytest.raises(WeightsError, match=r"without SAM's mask head.*stlm weights fetch --force"):
        mask_head_of(old)


@pytest.fixture(scope="module")
def weights() -> StartingWeights:
    return random_weights(1)


def test_own_file_gives_back_weights_and_origin(weights: StartingWeights, tmp_path: Path) -> None:
    path = tmp_path / "new" / "starting.safetensors"
    weights.save(path)
    for read in (StartingWeights.load(path), read_starting_weights(path, source="ignored")):
        assert same_weights(read, weights)
        assert (read.source, read.sha256) == ("somewhere", "ab12")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_interrupted_writing_leaves_the_old_file(
    weights: StartingWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "starting.safetensors"
    weights.save(path)

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        random_weights(2).save(path)
    assert same_weights(StartingWeights.load(path), weights)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_altered_own_file_is_refused(weights: StartingWeights, tmp_path: Path) -> None:
    path = tmp_path / "starting.safetensors"
    weights.save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    with pytest.raises(WeightsError, match=r"starting\.safetensors cannot be read"):
        StartingWeights.load(path)
    path.write_bytes(data.replace(b'"decoder.iou_token.weight"', b'"decoder.iou_tokem.weight"', 1))
    with pytest.raises(WeightsError, match=r"starting\.safetensors lacks: iou_token\.weight"):
        StartingWeights.load(path)
    path.write_bytes(data.replace(b'"decoder.iou_token.weight"', b'"teacher.iou_token.weight"', 1))
    with pytest.raises(WeightsError, match="unknown tensor teacher"):
        StartingWeights.load(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="not starting weights"):
        StartingWeights.load(path)
