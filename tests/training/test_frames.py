"""From oblong photographs, a mask and a smallest area to a model: tiles and region through training and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import write_photographs
from PIL import Image

from stlm_hub import STLM, finetune
from stlm_hub.errors import ConfigError, DataError
from stlm_hub.model_folder import results as model_results
from stlm_hub.predict.images import load_image
from stlm_hub.predict.predictor import input_of
from stlm_hub.training.feedback import accept
from stlm_hub.training.observer import Observer
from stlm_hub.training.recalibrate import is_remembered


@pytest.fixture(scope="module")
def long_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    write_photographs(folder, 10, 100, 200)
    return folder


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White on the left three quarters."""
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    pixels = np.zeros((100, 200), np.uint8)
    pixels[:, :150] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_streams_and_memory_learn_from_tiles_and_look_where_they_are_told(
    long_parts: Path, mask: Path, weights_file: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    folder = finetune(
        long_parts,
        "long",
        steps=1,
        size=128,
        tiles="1x2",
        region=mask,
        minimum_area=30,
        memory_entries=40,
        starting_from=weights_file,
        output=tmp_path / "long",
        observer=Observer(on_message=said.append),
    )
    model, made = STLM.from_pretrained(folder, device="cpu"), model_results.load(folder / "results.json")
    assert model.config.network.tiles == (1, 2) and model.input_size == (128, 192)
    assert model.region is not None and model.judging.minimum_area == round(30 * 128 * 192 / (100 * 200))
    assert made.dataset.photograph == (100, 200) and "region.safetensors" in made.files
    assert any("1 x 2 tiles of 128 px: defects from about 4 px" in line for line in said)
    command = made.provenance.commands[0].line
    assert "--tiles 1x2" in command and "--region FILE" in command and "--minimum-area 30" in command
    card = (folder / "README.md").read_text()
    assert "1 x 2 tiles of 128 px" in card and "about 4 px of a photograph of 200 x 100 px" in card
    assert "about 1/24 of the width, or 1/16 of the height, can be missed" in card

    image = np.array(Image.open(long_parts / "part_0.png"))
    other = image.copy()
    other[:, 152:] = 0  # beside the region
    seen, beside = model.predict(image), model.predict(other)
    assert seen.anomaly_map.shape == (100, 200) and not beside.anomaly_map[:, 153:].any()
    assert beside.verdict == seen.verdict and beside.score == pytest.approx(seen.score, abs=1e-3)
    assert seen.minimum_area == pytest.approx(30, rel=0.05)


def test_a_mask_that_does_not_fit_is_refused_before_any_work(long_parts: Path, tmp_path: Path) -> None:
    square = tmp_path / "square.png"
    Image.new("L", (50, 50), 255).save(square)
    output = tmp_path / "m"
    with pytest.raises(DataError, match="draw it on one of them"):
        finetune(long_parts, "long", steps=0, region=square, output=output)
    with pytest.raises(DataError, match="minimum area must be 0 to 200 px"):
        finetune(long_parts, "long", steps=0, minimum_area=201, output=output)
    with pytest.raises(ConfigError, match="Tiles are"):
        finetune(long_parts, "long", steps=0, tiles="few", output=output)
    assert not output.exists()


@pytest.fixture(scope="module")
def round_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of discs on a bench that is never the same, and a mask of the discs: a third of the frame."""
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:128, :128]
    disc = (rows - 64) ** 2 + (columns - 64) ** 2 < 40**2
    for i in range(14):
        pixels = rng.integers(0, 255, (128, 128, 3), np.uint8)
        pixels[disc] = 150 + rng.integers(-6, 7, (int(disc.sum()), 3))
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder.parent / "region").mkdir(exist_ok=True)
    Image.fromarray(disc.astype(np.uint8) * 255).save(folder.parent / "region" / "disc.png")
    return folder


def test_a_small_region_has_a_scale_of_its_own_and_what_lies_outside_is_not_remembered(
    round_parts: Path, tmp_path: Path
) -> None:
    """What is covered is far from a memory that holds none of it, and the same on all photographs."""
    known, new = tmp_path / "known", sorted(round_parts.iterdir())[10:]
    known.mkdir()
    for path in sorted(round_parts.iterdir())[:10]:
        (known / path.name).symlink_to(path)
    region = round_parts.parent / "region" / "disc.png"
    folder = finetune(known, "disc", steps=0, size=128, region=region, memory_entries=200, output=tmp_path / "disc")
    model = STLM.from_pretrained(folder, device="cpu")
    scale = model.judging.scale("memory")
    assert scale is not None and model.region is not None and model.patch_memory is not None
    grids = model.raw(input_of(model, [load_image(new[0])]), ("memory",)).values["memory"]
    inside = grids[..., model.region.cells((16, 16))]
    assert scale.typical == pytest.approx(float(inside.mean()), rel=0.5)
    assert scale.typical < 0.7 * float(grids.mean()), "what is covered counts"

    assert not any(is_remembered(model, path) for path in new)
    accept(folder, new[:1])
    changed = STLM.from_pretrained(folder, device="cpu")
    assert [is_remembered(changed, path) for path in new] == [True, False, False, False]
