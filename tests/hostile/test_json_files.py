"""config.json, calibration.json and results.json of odd values by the thousand: a right load, or a sentence."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
from card_model import CONFIG, JUDGING, REPO_ID, RESULTS
from exported import exported
from fuzz.outcome import peak_memory
from hostile.mutations import judges, mutated, refused, truncated

from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.card.card import render_card
from stlm_hub.runtime.detector import ExportedModel
from stlm_hub.stlm import STLM

__all__ = ["exported"]
pytestmark = pytest.mark.usefixtures("toy_streams")

MORE_MEMORY = 500_000_000  # bytes that all loads of one file may take together


@pytest.fixture
def folder(saved_memory_toy: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved_memory_toy, tmp_path / "model")


@pytest.mark.parametrize(("name", "least"), [("config.json", 700), ("calibration.json", 700)])
def test_odd_values_end_in_a_model_that_judges_or_a_sentence(name: str, least: int, folder: Path) -> None:
    before, memory, counts = (folder / name).read_bytes(), peak_memory(), [0, 0]
    for data in [*mutated(json.loads(before)), *truncated(before)]:
        (folder / name).write_bytes(data)
        counts[refused(lambda: judges(STLM.from_pretrained(folder, device="cpu")))] += 1
    assert sum(counts) >= least and min(counts) > 0, counts
    assert peak_memory() - memory < MORE_MEMORY
    (folder / name).write_bytes(before)
    judges(STLM.from_pretrained(folder, device="cpu"))


def test_odd_results_end_in_a_card_or_a_sentence(tmp_path: Path) -> None:
    path, counts = tmp_path / "results.json", [0, 0]
    facts.save(RESULTS, path)
    before = path.read_bytes()

    def card() -> None:
        render_card(facts.load(path), CONFIG, JUDGING, repo_id=REPO_ID).encode()

    for data in [*mutated(json.loads(before)), *truncated(before)]:
        path.write_bytes(data)
        counts[refused(card)] += 1
    assert sum(counts) >= 1500 and min(counts) > 0, counts


def test_odd_results_of_an_export_end_in_a_detector_or_a_sentence(exported: Path, tmp_path: Path) -> None:
    folder, counts = shutil.copytree(exported, tmp_path / "export"), [0, 0]
    before = (folder / "results.json").read_bytes()
    for data in islice(mutated(json.loads(before)), 0, None, 3):  # each that loads opens a graph
        (folder / "results.json").write_bytes(data)
        counts[refused(lambda: judges(ExportedModel.from_folder(folder, threads=1)))] += 1
    assert sum(counts) >= 300 and min(counts) > 0, counts
