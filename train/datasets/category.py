"""What every reader of a data set gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from stlm_hub.evaluation.evaluate import TestSet

Counts: TypeAlias = tuple[int, int, int]
"""Numbers of training, good test and anomalous test photographs."""


@dataclass(frozen=True)
class Category:
    """Photographs of one category. `split` is "official" where the counts are the published ones, else what differs."""

    train: list[Path]
    test: TestSet
    split: str


def describe_split(train: list[Path], test: TestSet, published: Counts | None) -> str:
    """
    Args:
        published: counts of the data set's own split; None where there is none.

    Returns:
        "official" where the counts are the published ones, "as in the folder" where none are known, else what differs.
    """
    counts = (len(train), len(test.good), len(test.anomalous))
    if published is None or published == counts:
        return "official" if published else "as in the folder"
    return (
        f"not the official one: {counts[0]} train, {counts[1]} good and {counts[2]} anomalous test photographs "
        f"instead of {published[0]}, {published[1]} and {published[2]}"
    )
