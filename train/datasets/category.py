"""What every reader of a data set gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.model_folder.provenance import Split

Counts: TypeAlias = tuple[int, int, int]
"""Numbers of training, good test and anomalous test photographs."""


@dataclass(frozen=True)
class Category:
    """Photographs of one category.

    Args:
        train: normal photographs to train on.
        test: photographs to evaluate on.
        split: whether the counts are the published ones, else what differs; None where none are known.
    """

    train: list[Path]
    test: TestSet
    split: Split | None


def compare_split(train: list[Path], test: TestSet, published: Counts | None) -> Split | None:
    """
    Args:
        train, test: photographs that were found.
        published: counts of the data set's own split; None where there is none.
    """
    counts = (len(train), len(test.good), len(test.anomalous))
    if published is None:
        return None
    if published == counts:
        return Split(True)
    return Split(
        False,
        f"{counts[0]} train, {counts[1]} good and {counts[2]} anomalous test photographs instead of {published[0]}, "
        f"{published[1]} and {published[2]}",
    )
