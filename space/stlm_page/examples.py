"""The sample photographs to click: out of the Space's folder, or made where there is none."""

from __future__ import annotations

import tempfile
from pathlib import Path

from stlm_hub.model_folder.space import write_examples
from stlm_hub.predict.images import list_images

CAPTIONS = {
    "crack": "cracked",
    "hole": "a hole",
    "stain": "stained",
    "scratch": "scratched",
    "good_1": "good",
    "good_2": "good",
}
_MADE = tempfile.TemporaryDirectory(prefix="stlm-examples-")


def examples(folder: Path) -> list[tuple[Path, str]]:
    """Photographs with captions, in the order of `CAPTIONS`.

    Args:
        folder: where they are; where it is missing they are made for as long as this process runs.
    """
    if not folder.is_dir():
        folder = write_examples(Path(_MADE.name) / "examples")
    found = {path.stem: path for path in list_images(folder)}
    return [(found[name], caption) for name, caption in CAPTIONS.items() if name in found]
