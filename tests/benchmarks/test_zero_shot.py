"""benchmarks/zero_shot.py on tiny stand-ins: figures of known maps, rows that are kept, what stands beside them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from small_clip import write_clip

from benchmarks import zero_shot
from stlm_hub.cli.console import console
from stlm_hub.errors import DataError
from stlm_hub.zero_shot.clip_map import Seen
from stlm_hub.zero_shot.detector import ZeroShot

SIZE = 64


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    """Bottle in MVTec AD's layout: two good photographs, two with a white square, and masks of it."""
    good = np.full((SIZE, SIZE, 3), 40)
    for i in range(2):
        picture(tmp_path / f"mvtec/bottle/train/good/00{i}.png", good + i)
        picture(tmp_path / f"mvtec/bottle/test/good/00{i}.png", good + i)
        bad, mask = good.copy(), np.zeros((SIZE, SIZE))
        bad[16:32, 8 + i : 40 + i] = mask[16:32, 8 + i : 40 + i] = 255
        picture(tmp_path / f"mvtec/bottle/test/crack/00{i}.png", bad)
        picture(tmp_path / f"mvtec/bottle/ground_truth/crack/00{i}_mask.png", mask)
    return tmp_path / "mvtec"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "small")


def bright(_: ZeroShot, images: list[np.ndarray], part: str) -> list[Seen]:
    """A detector that knows: the map is how bright the photograph is."""
    assert part == "bottle"
    maps = [cv2.resize(image[..., 0], (37, 37), interpolation=cv2.INTER_AREA) / np.float32(300) for image in images]
    return [Seen(one.astype(np.float32), float(one.max())) for one in maps]


def test_figures_of_a_known_map(mvtec: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZeroShot, "see", bright)
    monkeypatch.setattr(zero_shot, "refine_map", lambda image, *_: image[..., 0] / np.float32(300))
    output = tmp_path / "out.json"
    zero_shot.main(output, mvtec=mvtec, clip=str(clip), device="cpu")
    (row,) = json.loads(output.read_text())["rows"]
    assert (row["category"], row["part"], row["n_good"], row["n_anomalous"]) == ("bottle", "bottle", 2, 2)
    assert row["weights"] == "small" and row["input_size"] == [296, 296] and row["official_split"] is False
    for kind, least in (("clip", 0.8), ("refined", 0.95)):
        assert row["figures"][kind]["i_auroc"] == 1.0
        assert all(least < row["figures"][kind][name] <= 1 for name in zero_shot.FIGURES)
    monkeypatch.setattr(console, "_width", 250)  # no cell is wrapped; `width` cannot be set back
    monkeypatch.setattr(ZeroShot, "see", None)  # the row is kept, so nothing is looked at again
    with console.capture() as shown:
        zero_shot.main(output, mvtec=mvtec, clip=str(clip), device="cpu")
    text = " ".join(shown.get().split())
    assert "mean of 1 of 15" in text and "WinCLIP" in text and "31.7" in text


def test_the_whole_path_without_a_hand_made_map(mvtec: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "refine_map", lambda _, anomaly_map, *__: anomaly_map)
    model = ZeroShot.from_pretrained(clip, device="cpu")
    category = zero_shot.READERS["MVTec AD"][1](mvtec, "bottle")
    done: list[tuple[int, int]] = []
    row = zero_shot.measure(model, "MVTec AD", "bottle", category, lambda *counts: done.append(counts))
    assert done == [(i, 4) for i in range(1, 5)]
    assert all(0 <= row["figures"]["clip"][name] <= 1 for name in zero_shot.FIGURES)


def test_what_is_missing_is_told(mvtec: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no such category"):
        zero_shot.main(tmp_path / "out.json", visa_root=mvtec, clip=str(clip))
    (mvtec / "bottle/ground_truth").rename(mvtec / "elsewhere")
    model, category = ZeroShot.from_pretrained(clip), zero_shot.READERS["MVTec AD"][1](mvtec, "bottle")
    with pytest.raises(DataError, match="has no masks"):
        zero_shot.measure(model, "MVTec AD", "bottle", category, lambda *_: None)


@pytest.mark.parametrize(
    ("category", "name"), [("metal_nut", "metal nut"), ("pcb1", "pcb"), ("pipe_fryum", "pipe fryum")]
)
def test_a_category_is_called_as_people_do(category: str, name: str) -> None:
    assert zero_shot.part_name(category) == name


def test_published_figures_name_their_sources() -> None:
    published = json.loads(zero_shot.PUBLISHED.read_text())
    assert {row["data_set"] for row in published["rows"]} == set(zero_shot.READERS)
    for row in [*published["rows"], *published["gains"]]:
        assert "arXiv" in row["source"] and any(row.get(name) is not None for name in zero_shot.FIGURES)
