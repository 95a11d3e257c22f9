"""What the tests of the training share: the fixtures of `small_training`, and one whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_training import batch, make_network, photographs, run_folder, starting_weights, textures
from tiny_run import TinyRun

from stlm_hub.errors import TrainingError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer

__all__ = ["batch", "make_network", "photographs", "run_folder", "starting_weights", "textures"]

SCRATCH = (slice(20, 38), slice(15, 70))


@pytest.fixture(scope="session")
def draw_part() -> Callable[..., Path]:
    """Draws a photograph of one part, 90 x 60 px: its noise depends on the seed, its scratch is a red bar."""
    pattern = np.random.default_rng(3).integers(60, 200, (6, 9, 3)).astype(np.uint8)
    part = np.asarray(Image.fromarray(pattern).resize((90, 60), Image.Resampling.BICUBIC), np.int16)

    def draw(path: Path, seed: int, *, scratched: bool = False) -> Path:
        pixels = part + np.random.default_rng(seed).integers(-6, 7, (60, 90, 3))
        if scratched:
            pixels[SCRATCH] = (250, 20, 20)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        return path

    return draw


@pytest.fixture(scope="session")
def good_parts(draw_part: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten photographs of good parts."""
    folder = tmp_path_factory.mktemp("good")
    for i in range(10):
        draw_part(folder / f"part {i}.png", i)
    return folder


@pytest.fixture(scope="session")
def test_parts(draw_part: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> TestSet:
    """Two good and two scratched parts."""
    folder = tmp_path_factory.mktemp("test")
    mask = np.zeros((60, 90), np.uint8)
    mask[SCRATCH] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    good = [draw_part(folder / f"good {i}.png", 20 + i) for i in range(2)]
    bad = [draw_part(folder / f"bad {i}.png", 30 + i, scratched=True) for i in range(2)]
    return TestSet(good, bad, [folder / "mask.png"] * 2)


@pytest.fixture(scope="session")
def weights_file(starting_weights: StartingWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "starting.safetensors"
    starting_weights.save(path)
    return path


@pytest.fixture(scope="session")
def tiny_run(good_parts: Path, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRun]:
    """The one training that the tests of whole runs share."""
    folder = tmp_path_factory.mktemp("models") / "my-part"
    options: dict[str, Any] = {"steps": 3, "size": 64, "starting_from": weights_file, "false_alarm_rate": 0.05}
    first: list[int] = []
    second: list[int] = []
    said: list[str] = []
    observer = Observer(on_step=lambda report: first.append(report.step), should_stop=lambda: bool(first))
    with pytest.raises(TrainingError) as stopped:
        finetune(good_parts, "my-part", output=folder, observer=observer, **options)
    assert not folder.exists()
    observer = Observer(on_step=lambda report: second.append(report.step), on_message=said.append)
    assert finetune(good_parts, "my-part", output=folder, observer=observer, **options) == folder
    yield TinyRun(folder, options, str(stopped.value), (first, second), said)
    shutil.rmtree(folder.parent)  # checkpoints of 200 MB
