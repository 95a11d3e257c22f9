"""The frame that a training chooses for the photographs that it gets."""

from __future__ import annotations

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.training.input_size import choose_input


@pytest.mark.parametrize(
    ("shape", "size", "tiles", "expected"),
    [
        ((900, 900), None, "auto", ((256, 256), (1, 1))),
        ((480, 640), None, "auto", ((256, 320), (1, 1))),
        ((640, 480), None, "auto", ((320, 256), (1, 1))),
        ((500, 1270), None, "auto", ((192, 512), (1, 1))),  # the thin cracks of the issue
        ((100, 4000), None, "none", ((64, 1536), (1, 1))),
        ((500, 1270), 640, "auto", ((256, 640), (1, 1))),
        ((1270, 500), 640, "auto", ((640, 256), (1, 1))),
        ((3000, 4096), None, "none", ((256, 320), (1, 1))),
        ((3000, 4096), None, "auto", ((256, 192), (4, 8))),
        ((3000, 4096), 512, "auto", ((384, 512), (3, 3))),
        ((1030, 4000), None, "auto", ((192, 256), (2, 6))),
        ((2000, 2000), None, "auto", ((192, 192), (4, 4))),
        ((900, 900), None, "2x3", ((256, 256), (2, 3))),
    ],
)
def test_aspect_and_tiles_follow_the_photographs(
    shape: tuple[int, int], size: int | None, tiles: str, expected: object
) -> None:
    input_size, grid = choose_input(shape, size, tiles)
    assert (input_size, grid) == expected
    frame = NetworkConfig(input_size, tiles=grid).frame_size
    if tiles == "auto" and grid != (1, 1):
        down, across = (own / framed for own, framed in zip(shape, frame, strict=True))
        assert max(down, across) <= 4 and 0.93 < down / across < 1.07


@pytest.mark.parametrize("shape", [(1080, 1920), (1200, 1600), (1040, 2600), (2600, 1040), (2048, 2448), (4000, 6000)])
def test_a_frame_of_tiles_hardly_distorts(shape: tuple[int, int]) -> None:
    input_size, grid = choose_input(shape)
    frame = NetworkConfig(input_size, tiles=grid).frame_size
    down, across = (own / framed for own, framed in zip(shape, frame, strict=True))
    assert 2.5 < min(down, across) <= max(down, across) <= 4 and 0.93 < down / across < 1.07


@pytest.mark.parametrize(
    ("size", "tiles", "sentence"),
    [
        (100, "auto", "multiple of 64"),
        (0, "auto", "multiple of 64"),
        (4096, "auto", "multiple of 64"),
        (256, "0x3", "cannot be"),
        (256, "30x30", "cannot be"),
        (64, "2x2", "cannot be"),
        (256, "many", "Tiles are"),
        (256, "", "Tiles are"),
        (256, "3x4x5", "Tiles are"),
    ],
)
def test_what_cannot_be_is_refused(size: int, tiles: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        choose_input((900, 900), size, tiles)
