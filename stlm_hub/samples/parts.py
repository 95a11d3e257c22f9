"""Sample photographs anyone may use: crops of CC0 photographs as normal parts, painted defects with exact masks.

The photographs are scikit-image's `brick`, `grass` and `gravel` (512 x 512, grey). Normal crops for training and crops
for testing come from separate parts of each photograph and share no pixel. The result has MVTec AD's layout::

    DIR/brick/LICENSE.txt
    DIR/brick/train/good/000.png
    DIR/brick/test/good|crack|stain|scratch|hole|fibre/000.png
    DIR/brick/ground_truth/crack|stain|scratch|hole|fibre/000_mask.png     255 = defect
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import DataError
from .defects import KINDS, paint

PARTS = ("brick", "grass", "gravel")

MIN_SIZE, MAX_SIZE = 64, 1024  # pixels
REGIONS = {"train": slice(212, 512), "test": slice(0, 212)}
"""Columns of the photograph. Columns, not rows: every row's distance from the camera then occurs in both regions."""

_CROP = (168.0, 192.0)  # px, side of a crop; turned by 3 degrees the largest one spans 202 px of the 212
_MAX_ANGLE = 3.0  # degrees
_MARGIN = 3.0  # px around a turned crop for the interpolation
_NOISE = 1.5 / 255  # standard deviation, as of a sensor
_TINT = {"brick": (1.16, 0.98, 0.88), "grass": (0.95, 1.04, 0.80), "gravel": (1.04, 1.0, 0.94)}
_SOURCES = {
    "brick": "https://cc0textures.com/view.php?tex=Bricks25",
    "grass": "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    "gravel": "https://cc0textures.com/view.php?tex=Gravel04",
}
_LICENSE = """\
Creative Commons CC0 1.0 Universal (public domain dedication)
https://creativecommons.org/publicdomain/zero/1.0/

The photographs in this folder are crops of `skimage.data.{part}`, which scikit-image distributes. Its documentation
says that the original was downloaded from
{source}
and is licensed under the Creative Commons CC0 License.

The crops were turned, mirrored, enlarged, tinted and lit differently; the defects are painted by a program and are not
real. Crops, defects and masks are dedicated to the public domain under the same terms.
"""


def write_samples(
    folder: Path,
    *,
    part: str = "brick",
    n_train: int = 120,
    n_good: int = 24,
    n_defect_each: int = 8,
    size: int = 256,
    seed: int = 0,
) -> Path:
    """Writes one part's photographs and masks as PNG. The same arguments give the same bytes.

    Args:
        folder: where to make the folder `part`; it is created where needed.
        part: one of `PARTS`.
        n_train: normal photographs for training.
        n_good: normal photographs for testing.
        n_defect_each: photographs for testing of each kind of defect.
        size: side of the square photographs in pixels, 64 to 1024.
        seed: decides crops, light and defects. A photograph does not depend on how many others are made.

    Returns:
        `folder / part`. It appears only when all of it is written.

    Raises:
        DataError: an argument is out of range, `folder / part` already holds something or cannot be written, or
            scikit-image is not installed.
    """
    _check(part, size, seed, {"n_train": n_train, "n_good": n_good, "n_defect_each": n_defect_each})
    target = Path(folder) / part
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(f"{target} already exists and is not empty; delete it or choose another folder.")
        photograph = _photograph(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{part}-") as scratch:
            made = Path(scratch) / part
            made.mkdir()
            (made / "LICENSE.txt").write_text(_LICENSE.format(part=part, source=_SOURCES[part]), encoding="utf-8")
            _write_normals(made / "train" / "good", photograph, part, "train", n_train, size, seed)
            _write_normals(made / "test" / "good", photograph, part, "test", n_good, size, seed)
            for kind in KINDS:
                _write_defects(made, photograph, part, kind, n_defect_each, size, seed)
            if target.exists():
                target.rmdir()
            made.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}; choose another folder.") from None
    return target


def make_normal(photograph: np.ndarray, part: str, split: str, index: int, *, size: int, seed: int) -> np.ndarray:
    """One normal photograph of the split "train" or "test", RGB uint8 SxSx3, from the grey uint8 512x512 photograph."""
    rng = np.random.default_rng([seed, PARTS.index(part), list(REGIONS).index(split), index])
    scene = _scene(photograph[:, REGIONS[split]], part, size, rng)
    return _expose(scene, rng.normal(0, _NOISE, scene.shape))


def make_defective(
    photograph: np.ndarray, part: str, kind: str, index: int, *, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One photograph for testing without and with a painted defect.

    Args:
        photograph: grey uint8 512x512.
        part: one of `PARTS`.
        kind: one of `stlm_hub.samples.defects.KINDS`.
        index: number of the photograph within its kind.
        size: side of the result in pixels.
        seed: with part, kind and index decides everything.

    Returns:
        Clean and damaged photograph, RGB uint8 SxSx3 with the same light and noise, and the mask, bool SxS. Outside the
        mask the two differ by no more than `stlm_hub.samples.defects.TOLERANCE` and rounding.
    """
    rng = np.random.default_rng([seed, PARTS.index(part), len(REGIONS) + KINDS.index(kind), index])
    scene = _scene(photograph[:, REGIONS["test"]], part, size, rng)
    noise = rng.normal(0, _NOISE, scene.shape)
    damaged, mask = paint(scene, kind, rng)
    return _expose(scene, noise), _expose(damaged, noise), mask


def _check(part: str, size: int, seed: int, counts: dict[str, int]) -> None:
    if part not in PARTS:
        raise DataError(f'There are no sample photographs of "{part}"; choose one of {", ".join(PARTS)}.')
    if not _is_whole(size) or not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"size is {size!r}; give a whole number from {MIN_SIZE} to {MAX_SIZE} (pixels).")
    for name, value in {"seed": seed, **counts}.items():
        if not _is_whole(value) or value < 0:
            raise DataError(f"{name} is {value!r}; give a whole number of 0 or more.")


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _photograph(part: str) -> np.ndarray:
    try:
        from skimage import data

        return np.asarray(getattr(data, part)())
    except ImportError:
        raise DataError("The sample photographs come with scikit-image: pip install scikit-image") from None


def _scene(region: np.ndarray, part: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A crop of a region, turned, mirrored, enlarged, tinted and lit at random: RGB float32 SxSx3 in [0, 1]."""
    side = rng.uniform(*_CROP)
    angle = np.deg2rad(rng.uniform(-_MAX_ANGLE, _MAX_ANGLE))
    reach = side / 2 * (np.cos(angle) + abs(np.sin(angle))) + _MARGIN
    height, width = region.shape
    centre = rng.uniform([reach, reach], [width - reach, height - reach])
    axes = side / size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axes = axes * rng.choice([-1, 1], 2)  # mirrors x, y or both
    offset = centre - axes @ np.full(2, (size - 1) / 2)
    crop = cv2.warpAffine(
        region.astype(np.float32) / 255,
        np.column_stack([axes, offset]),
        (size, size),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    lit = np.clip(crop, 0, 1) ** rng.uniform(0.92, 1.1) * rng.uniform(0.9, 1.1)
    ramp = np.linspace(-0.5, 0.5, size)
    slope = rng.uniform(-0.08, 0.08, 2)  # the lamp is never quite above the middle
    lit = lit * (1 + slope[0] * ramp[None] + slope[1] * ramp[:, None])
    return np.clip(lit[..., None] * np.array(_TINT[part]), 0, 1).astype(np.float32)


def _expose(scene: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.round(np.clip(scene + noise, 0, 1) * 255).astype(np.uint8)


def _write_normals(
    folder: Path, photograph: np.ndarray, part: str, split: str, count: int, size: int, seed: int
) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        picture = make_normal(photograph, part, split, index, size=size, seed=seed)
        Image.fromarray(picture).save(folder / f"{index:03d}.png")


def _write_defects(made: Path, photograph: np.ndarray, part: str, kind: str, count: int, size: int, seed: int) -> None:
    pictures, masks = made / "test" / kind, made / "ground_truth" / kind
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for index in range(count):
        _, damaged, mask = make_defective(photograph, part, kind, index, size=size, seed=seed)
        Image.fromarray(damaged).save(pictures / f"{index:03d}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / f"{index:03d}_mask.png")
