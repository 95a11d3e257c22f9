"""Tiles of a frame: cut, blended, and what a model sees through them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig, size_text, smallest_defect
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.models.stlm.tiles import blend, cut, places

TILED = NetworkConfig(input_size=(128, 192), tiles=(3, 2), aggregation_channels=8)


def test_the_frame_is_all_tiles_less_what_they_share() -> None:
    assert TILED.frame_size == (3 * 128 - 2 * 64, 2 * 192 - 64) == (256, 320)
    assert NetworkConfig(input_size=(128, 192)).frame_size == (128, 192)
    assert size_text(TILED) == "3 x 2 tiles of 128 x 192 px" and size_text(NetworkConfig()) == "1024 px"


@pytest.mark.parametrize("cell", [1, 8, 16])
def test_blending_what_was_cut_gives_the_frame_back(cell: int) -> None:
    frame = torch.rand(2, 3, 256 // cell, 320 // cell)
    pixels = F.interpolate(frame, size=TILED.frame_size, mode="nearest")
    tiles = F.max_pool2d(cut(pixels, TILED).flatten(0, 1), cell).unflatten(0, (2, 6))
    assert torch.allclose(blend(tiles, TILED), frame, atol=1e-6)


def test_every_pixel_is_in_a_tile_and_seams_have_no_step() -> None:
    covered = torch.zeros(TILED.frame_size)
    for y, x in places(TILED):
        covered[y : y + 128, x : x + 192] += 1
    assert covered.min() == 1 and covered.max() == 4
    levels = torch.arange(6.0).view(1, 6, 1, 1, 1).expand(1, 6, 1, 16, 24)  # each tile a constant of its own
    blended = blend(levels, TILED)[0, 0]
    steps = torch.maximum(blended.diff(dim=0).abs().max(), blended.diff(dim=1).abs().max())
    assert steps < 0.6, "neighbours of constants 2 apart would jump by 2 where tiles are not blended"


def tiled_model(**network: object) -> AnomalyMaps:
    config = NetworkConfig(aggregation_channels=8, **network)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = AnomalyMaps(STLMConfig(config, PatchMemoryConfig(50, 16)), Judging("memory")).eval()
    memory = model.patch_memory
    assert memory is not None
    memory.components.normal_()
    memory.entries.normal_()
    return model


def test_a_model_with_tiles_sees_each_as_one_without_sees_a_photograph() -> None:
    model, alone = tiled_model(input_size=(128, 192), tiles=(3, 2)), tiled_model(input_size=(128, 192))
    alone.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, *model.frame_size) * 255
    with torch.inference_mode():
        seen = model.raw(image, ("aggregation", "memory")).values
        first = alone.raw(image[..., :128, :192], ("aggregation",)).values["aggregation"]
        patches, corner = model.patches(image), alone.patches(image[..., :128, :192])
    assert seen["memory"].shape == (1, 1, 32, 40) and seen["aggregation"].shape == (1, 1, 16, 20)
    # Inside the first tile, away from what it shares with others, nothing else is looked at.
    assert torch.allclose(seen["aggregation"][..., :4, :8], first[..., :4, :8], atol=1e-5)
    assert torch.allclose(patches[:, :8, :16], corner[:, :8, :16], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tiles": (17, 16)}, "at most 256 in all"),
        ({"tiles": (0, 1)}, "tiles must be a whole number from 1"),
        ({"tiles": 3}, "two whole numbers"),
        ({"tiles": (2, 2), "input_size": (64, 128)}, "Tiles must be larger than 64 px"),
        ({"input_size": (128,)}, "two whole numbers"),
        ({"input_size": (128, 100)}, "two multiples of 64"),
    ],
)
def test_impossible_tiles_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        NetworkConfig(**changes)  # type: ignore[arg-type]


def test_the_smallest_defect_counts_in_pixels_of_the_photograph() -> None:
    assert smallest_defect((900, 900), (256, 256)) == pytest.approx(4 * 900 / 256)
    assert smallest_defect((100, 100), (256, 256)) == 4, "a photograph that is blown up shows nothing more"
