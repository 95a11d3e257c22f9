"""How small a defect may be on a large photograph, with and without tiles.

    python benchmarks/smallest_defect.py --output benchmarks/smallest_defect.json

Photographs of 4096 x 3000 px are drawn from the CC0 textures that come with scikit-image, each with light and sensor
noise of its own. A memory alone (`--steps 0`) learns from good ones, then judges others with one dark disc each.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from PIL import Image
from rich.table import Table
from skimage import data
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from stlm_hub import STLM, finetune  # noqa: E402
from stlm_hub.cli.console import console, say  # noqa: E402
from stlm_hub.training.machine import circumstances  # noqa: E402

SHAPE = (3000, 4096)
DARKNESS = 60.0  # grey levels that the disc is darker than what is below it


def photograph(seed: int, diameter: int = 0) -> np.ndarray:
    """A good part, or one with a disc of this diameter: HxWx3 uint8."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(data.brick(), (0, 0), 2.0)  # 512 x 512, blown up: what a sharp lens sees from near
    large = cv2.resize(texture, (SHAPE[1], SHAPE[1]), interpolation=cv2.INTER_CUBIC)
    top = int(rng.integers(0, SHAPE[1] - SHAPE[0]))
    grey = large[top : top + SHAPE[0]].astype(np.float32) * rng.uniform(0.97, 1.03)
    if diameter:
        centre = tuple(int(rng.integers(100, side - 100)) for side in SHAPE[::-1])
        disc = np.zeros(SHAPE, np.uint8)
        cv2.circle(disc, centre, diameter * 8, 255, -1, cv2.LINE_AA, 4)  # in 16ths of a pixel
        grey -= DARKNESS * disc / 255
    grey += rng.normal(0, 3, SHAPE)
    return np.repeat(grey.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def measure(model: STLM, diameters: list[int], n: int) -> dict[str, Any]:
    """I-AUROC and the share that is not passed, for each diameter."""
    good = [model.predict(photograph(1000 + i)) for i in range(n)]
    found: dict[str, Any] = {"good_rejected": sum(p.is_anomalous for p in good)}
    for diameter in diameters:
        bad = [model.predict(photograph(2000 + i, diameter)) for i in range(n)]
        scores = [p.score for p in [*good, *bad]]
        found[f"{diameter} px"] = {
            "i_auroc": round(float(roc_auc_score([0] * n + [1] * n, scores)), 4),
            "rejected": sum(p.is_anomalous for p in bad),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--photographs", type=int, default=10, help="to learn from, and of each kind to test on")
    parser.add_argument("--diameters", type=int, nargs="+", default=[6, 12, 24])
    parser.add_argument("--tiles", nargs="+", default=["none", "auto", "8x10"])
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as name:
        good = Path(name) / "good"
        good.mkdir()
        for i in range(args.photographs):
            Image.fromarray(photograph(i)).save(good / f"{i:03d}.png", compress_level=1)
        for tiles in args.tiles:
            folder = finetune(good, "part", steps=0, tiles=tiles, output=Path(name) / tiles)
            model = STLM.from_pretrained(folder)
            rows[tiles] = {
                "tiles": list(model.config.network.tiles),
                "frame": list(model.frame_size),
                **measure(model, args.diameters, args.photographs),
            }
            say(f"{tiles}: {rows[tiles]}")
    table = Table("tiles", "frame", *(f"{d} px: I-AUROC, rejected" for d in args.diameters), "good rejected")
    for tiles, row in rows.items():
        cells = [f"{100 * row[f'{d} px']['i_auroc']:.1f}, {row[f'{d} px']['rejected']}" for d in args.diameters]
        table.add_row(tiles, "x".join(map(str, row["frame"])), *cells, str(row["good_rejected"]))
    console.print(table)
    if args.output:
        made = circumstances()
        facts = {"photographs": args.photographs, "shape": SHAPE, "hardware": made.hardware, "date": made.date}
        args.output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
