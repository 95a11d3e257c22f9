"""The last steps of every finished model: calibration.json, results.json and the card, in this order."""

from __future__ import annotations

from pathlib import Path

from ..files.fingerprint import file_sha256
from ..models.stlm.judging import Judging
from . import results as facts
from .card.card import write_card
from .folder import write_judging
from .names import FAMILIARITY_NAME, REGION_NAME, RESULTS_NAME, WEIGHT_FILES
from .results import FileFacts, Results

_TYPES = {FAMILIARITY_NAME: "float32", REGION_NAME: "uint8"}  # whatever the type of the others


def file_facts(folder: Path, dtype: str = "float16") -> dict[str, FileFacts]:
    """SHA-256, size and type of each weights file of a folder, by name."""
    return {
        name: FileFacts(
            file_sha256(folder / name),
            (folder / name).stat().st_size,
            _TYPES.get(name, dtype),
        )
        for name in WEIGHT_FILES
        if (folder / name).is_file()
    }


def write_results(folder: Path, results: Results, judging: Judging, repo_id: str) -> None:
    """Writes how the model judges, what is known of it, and its card, into a folder that holds its weights.

    Raises:
        ConfigError: results and judging are not of one model; the card's writer looks.
    """
    write_judging(folder, judging)
    facts.save(results, folder / RESULTS_NAME)
    write_card(folder, repo_id)
