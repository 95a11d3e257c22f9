"""What each model of the zoo says of a few pictures that need no data set: `make golden` writes it, a test compares.

Whoever changes a model or the way it judges on purpose writes the files anew and looks at the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stlm_hub.model_folder.zoo import list_models
from stlm_hub.stlm import STLM

FOLDER = Path(__file__).parent
SIDE = 320
CELLS = 4
"""Rows and columns of the grid whose means of the map are kept."""


def pictures() -> dict[str, np.ndarray]:
    """Drawn by whole numbers alone, so that every version of every library draws the same: SIDExSIDEx3 uint8 RGB."""
    y, x, c = np.mgrid[:SIDE, :SIDE, :3]
    noise = (x * 7919 + y * 104_729 + c * 1_299_709 + x * y * 31) % 13
    radius = (x - SIDE // 2) ** 2 + (y - SIDE // 2) ** 2
    ring = np.where((radius < 140**2) & (radius > 90**2), 150 - 20 * c, 30 + 5 * c) + noise
    bricks = np.where((y % 40 < 4) | ((x + 40 * (y // 40 % 2)) % 80 < 4), 190, 120 + (x // 80 * 37 + y // 40 * 53) % 40)
    scratch = (abs(3 * x - 2 * y - 100) < 12) & (x > 80) & (x < 240)
    stain = (x - 110) ** 2 + (y - 190) ** 2 < 30**2
    drawn = {
        "ring": ring,
        "ring with a scratch": np.where(scratch, 230 - 60 * c, ring),
        "bricks with a stain": np.where(stain, 60 + 10 * c, bricks + noise),
        "nothing": np.full_like(x, 124),
    }
    return {name: values.clip(0, 255).astype(np.uint8) for name, values in drawn.items()}


def measure(alias: str) -> dict[str, Any]:
    """Thresholds of a model, and of each picture verdict, score, unfamiliarity, and the map's statistics."""
    model = STLM.from_pretrained(alias, device="cpu", backend="torch")
    shown = pictures()
    found = {}
    for name, prediction in zip(shown, model.predict(list(shown.values())), strict=True):
        values = prediction.anomaly_map.astype(np.float64)
        cells = values.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean((1, 3))
        found[name] = {
            "verdict": prediction.verdict,
            "score": round(prediction.score, 6),
            "unfamiliarity": round(prediction.unfamiliarity, 4),
            "map": {
                "mean": round(values.mean(), 6),
                "max": round(values.max(), 6),
                "std": round(values.std(), 6),
                "cells": cells.round(5).tolist(),
            },
        }
    return {
        "threshold": model.judging.threshold,
        "review_threshold": model.judging.review_threshold,
        "pictures": found,
    }


def main() -> None:
    """Writes a file for each model of the zoo."""
    for entry in list_models():
        made = {"sha256": entry.sha256, **measure(entry.alias)}
        (FOLDER / f"{entry.alias}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        print(f"{entry.alias}: {', '.join(one['verdict'] for one in made['pictures'].values())}")


if __name__ == "__main__":
    main()
