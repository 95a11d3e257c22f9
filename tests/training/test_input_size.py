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
        ((3000, 4096), None, "auto", ((256, 256), (4, 5))),
        ((3000, 4096), 512, "auto", ((512, 512), (2, 3))),
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
        assert all(4 * framed >= own for own, framed in zip(shape, frame, strict=True))


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
