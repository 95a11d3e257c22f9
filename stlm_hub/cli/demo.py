"""`make demo`: the sample model of the zoo judges sample photographs and draws a panel of each."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.markup import escape

from ..predict.images import list_images
from ..samples.parts import write_samples
from ..stlm import STLM
from ..wording import percent
from .console import VERDICTS, exit_on_error, say

ALIAS = "sample-brick"
PART = "brick"
SEED = 0
PER_KIND = 2  # photographs of each kind: good and each kind of defect


def demo(folder: Path) -> list[Path]:
    """Writes sample photographs and panels into a folder and prints a verdict for each panel.

    Args:
        folder: gets the subfolders `samples`, which is kept where it exists, and `panels`.

    Returns:
        Paths of the panels.

    Raises:
        STLMError: the photographs cannot be written, or the model cannot be loaded.
    """
    samples = folder / "samples"
    if not (samples / PART).is_dir():
        write_samples(samples, part=PART, seed=SEED)
    model = STLM.from_pretrained(ALIAS)
    calibration = model.calibration
    if calibration:
        say(
            f"{ALIAS}: threshold {calibration.threshold:.4f}, chosen on {calibration.n} photographs of good parts: "
            f"at most {percent(calibration.highest_rate)} of good parts are rejected (95 % sure)."
        )
    panels = []
    right = total = 0
    for kind in sorted(path for path in (samples / PART / "test").iterdir() if path.is_dir()):
        for path in list_images(kind)[:PER_KIND]:
            started = time.perf_counter()
            prediction = model.predict(path)
            seconds = time.perf_counter() - started
            panels.append(
                prediction.save(folder / "panels" / f"{kind.name}_{path.stem}.png", title=f"{PART}: {kind.name}")
            )
            say(
                f"{VERDICTS[prediction.verdict]}  score {prediction.score:.4f}  {seconds:.2f} s  "
                + escape(f"{kind.name}/{path.name}  -> {panels[-1]}"),
                markup=True,
            )
            total += 1
            right += (prediction.verdict == "reject") == (kind.name != "good")
    say(f"{right} of {total} verdicts agree with what was painted. Look at {folder / 'panels'}.")
    return panels


if __name__ == "__main__":
    with exit_on_error():
        demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
