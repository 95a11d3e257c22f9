from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stlm_hub.errors import DataError
from stlm_hub.model_folder.provenance import Split
from train.datasets.mvtec_ad import OFFICIAL_COUNTS, read_category

DATA = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "mvtec_ad"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)


@pytest.fixture
def category(tmp_path: Path) -> Path:
    folder = tmp_path / "cable"
    for i in range(3):
        picture(folder / "train" / "good" / f"{i:03d}.png")
    picture(folder / "test" / "good" / "000.png")
    for kind, names in {"bent_wire": ("000", "001"), "combined": ("000",)}.items():
        for name in names:
            picture(folder / "test" / kind / f"{name}.png")
            picture(folder / "ground_truth" / kind / f"{name}_mask.png")
    return folder


def test_every_anomalous_photograph_gets_its_own_mask(category: Path) -> None:
    found = read_category(category)
    assert len(found.train) == 3 and len(found.test.good) == 1
    assert [(p.parent.name, p.stem) for p in found.test.anomalous] == [
        ("bent_wire", "000"),
        ("bent_wire", "001"),
        ("combined", "000"),
    ]
    for photograph, mask in zip(found.test.anomalous, found.test.masks, strict=True):
        assert mask.parent.name == photograph.parent.name and mask.stem == f"{photograph.stem}_mask"


def test_another_split_is_not_called_official(category: Path) -> None:
    split = read_category(category).split
    assert split is not None and not split.official
    assert split.reason.startswith("3 train, 1 good and 3 anomalous") and "224, 58 and 92" in split.reason


def test_good_test_photographs_that_are_not_the_data_sets_own_are_told(
    category: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = next((category / "test" / "good").iterdir())
    good.rename(good.with_name(f"train_{good.name}"))
    foreign = f"1 of the good test photographs are not its own by their names, e.g. train_{good.stem}"
    split = read_category(category).split
    assert split is not None and not split.official
    assert split.reason.startswith("3 train, 1 good and 3 anomalous") and split.reason.endswith(f"; {foreign}")
    monkeypatch.setitem(OFFICIAL_COUNTS, "cable", (3, 1, 3))
    assert read_category(category).split == Split(False, f"as large as the official one; {foreign}")


def test_missing_parts_are_refused(category: Path) -> None:
    (category / "ground_truth" / "combined" / "000_mask.png").unlink()
    with pytest.raises(DataError, match=r"combined.000_mask\.png is missing"):
        read_category(category)
    with pytest.raises(DataError, match="--data"):
        read_category(category.parent / "zipper")


def test_official_counts_are_those_of_the_data_set() -> None:
    assert len(OFFICIAL_COUNTS) == 15
    train, good, anomalous = (sum(counts[i] for counts in OFFICIAL_COUNTS.values()) for i in range(3))
    assert (train, good, anomalous) == (3629, 467, 1258)


@pytest.mark.skipif(not DATA.is_dir(), reason="MVTec AD photographs are not beside this checkout")
@pytest.mark.parametrize("name", ["bottle", "pill", "screw"])
def test_the_real_photographs_are_the_official_split(name: str) -> None:
    found = read_category(DATA / name)
    assert found.split == Split(True)
    assert (len(found.train), len(found.test.good), len(found.test.anomalous)) == OFFICIAL_COUNTS[name]
    grid = read_category(DATA / "grid").split
    assert grid is not None and grid.words.startswith("not the official one")
