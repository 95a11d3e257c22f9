"""How outlines are compared, with and without refinement, and how rows of references are summed up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn import grey, write_photographs

from benchmarks import data_sets, references, refine
from benchmarks.outlines import agreement, boundary, boundary_f
from stlm_hub.calibration.normals import Normal
from stlm_hub.calibration.outlines import Pair
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.predict.prediction import Prediction


def box(top: int, left: int, height: int, width: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_masks_agree_by_area_and_by_boundary() -> None:
    truth = box(16, 16, 20, 20)
    assert agreement(truth, truth) == (1, 1, 1)
    half = agreement(box(16, 16, 20, 10), truth)
    assert (half.f1, half.iou) == (pytest.approx(2 / 3), 0.5) and 0.4 < half.boundary_f < 0.9
    assert agreement(np.zeros_like(truth), truth) == (0, 0, 0) == agreement(box(50, 50, 5, 5), truth)
    assert boundary_f(box(17, 16, 20, 20), truth) == 1  # one pixel aside is within the tolerance
    assert boundary(box(0, 0, 64, 64)).sum() == 4 * 63 and boundary(box(3, 3, 1, 1)).sum() == 1


def test_a_sample_keeps_photographs_and_masks_together() -> None:
    paths = [Path(f"{i}.png") for i in range(9)]
    found = data_sets.PhotoSet("part", [], TestSet(paths, paths, [Path(f"{i}_mask.png") for i in range(9)]))
    sample = found.sample(3, 4, 0)
    assert (len(sample.good), len(sample.anomalous)) == (3, 4)
    assert [mask.name for mask in sample.masks] == [f"{path.stem}_mask.png" for path in sample.anomalous]
    assert found.sample(3, 4, 0) == sample and found.sample(20, 20, 1).good == paths
    assert data_sets.PhotoSet("part", [], TestSet(paths, paths, [])).sample(1, 1, 0).masks == []


def test_pseudo_anomalies_are_told_as_a_calibration_asks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    truths = [box(16, left, 20, 20) for left in (10, 16, 22, 30)]

    def judged(mask: np.ndarray) -> Prediction:
        return Prediction(np.zeros((64, 64, 3), np.uint8), mask.astype(np.float32), 0.9, 0.5)

    asked: list[Normal] = []

    def pairs(_: object, normals: list[Normal], n: int, *__: object) -> Iterator[Pair]:
        asked.extend(normals)
        yield from (Pair(judged(box(16, 16, 20, 20)), judged(truth), truth) for truth in truths[:n])

    monkeypatch.setattr(refine, "pairs", pairs)
    split = SimpleNamespace(train=[Path("a.png")] * 2, held_out=[Path("b.png"), Path("c.png")])
    told = refine.on_pseudo_anomalies(None, split, None, 4, 0)  # type: ignore[arg-type]
    assert told["refined"]["f1"] == 100 > told["plain"]["f1"] > 0
    assert told["gain"] == pytest.approx(100 - told["plain"]["f1"])
    assert told["helps"] == (told["gain"] > 2 * told["standard_error"])
    assert [(one.path.name, one.remembered) for one in asked] == [("b.png", 2), ("c.png", 3)]


def test_draws_of_references_are_summed_up() -> None:
    shared = {"set": "part", "references": 2, "good": 10, "anomalous": 20, "p_auroc": None, "aupro": None, "ap": None}
    draws = [
        {**shared, "i_auroc": 90.0, "good_rejected": 0, "anomalous_missed": 4},
        {**shared, "i_auroc": 80.0, "good_rejected": 2, "anomalous_missed": 0},
    ]
    (row,) = references.summary(draws)
    assert (row["i_auroc"], row["lowest"], row["draws"], row["ap"]) == (85.0, 80.0, 2, None)
    assert (row["rejected"], row["missed"]) == (10.0, 10.0)


def test_a_row_of_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_photographs(tmp_path / "part", 6)
    asked: list[int] = []

    class Memory:
        frame_size = (64, 64)

        def __init__(self, images: list[np.ndarray]) -> None:
            asked.append(len(images))

        def see(self, framed: np.ndarray) -> list[torch.Tensor]:
            return [torch.from_numpy(framed)]

        def limits(self, seen: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            dark = float(seen[0].float().mean() < 60)
            return torch.full((1, 1, 64, 64), 2 * dark), torch.tensor(2 * dark)

    monkeypatch.setattr(references, "ReferenceMemory", Memory)
    monkeypatch.setattr(references, "load_image", lambda path: grey(20 if path in paths[4:] else 120, 30, 40))
    found = data_sets.PhotoSet("part", paths[:2], TestSet(paths[2:4], paths[4:], []))
    row = references.measure(found, found.sample(5, 5, 0), 2, 1, {})
    assert asked == [2] and (row["i_auroc"], row["ap"]) == (100, None) and len(set(row["names"])) == 2
    assert (row["good"], row["anomalous"], row["good_rejected"], row["anomalous_missed"]) == (2, 2, 0, 0)
