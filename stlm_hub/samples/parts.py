"""Sample photographs that anyone may use: crops of CC0 photographs as normal parts, with painted defects for testing.

The source photographs are scikit-image's `brick`, `grass` and `gravel` (512 x 512, grey). Crops for training and crops
for testing come from separate regions of a photograph and share no pixel. The files have MVTec AD's layout::

    DIR/brick/LICENSE.txt
    DIR/brick/train/good/000.png
    DIR/brick/test/good|crack|stain|scratch|hole|fibre/000.png
    DIR/brick/ground_truth/crack|stain|scratch|hole|fibre/000_mask.png     255 = defect
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.whole import made_beside
from ..validate import expanded
from .defects import DEFECT_KINDS, paint

PARTS = ("brick", "grass", "gravel")

MIN_SIZE, MAX_SIZE = 64, 1024  # px, side of a sample photograph
REGIONS = {"train": slice(212, 512), "test": slice(0, 212)}
"""Columns of the source photograph for each split. Both regions have all rows, so all distances from the camera."""

_CROP = (168.0, 192.0)  # px, range of a crop's side; the largest, turned by 3 degrees, spans 202 px of the 212
_MAX_ANGLE = 3.0  # degrees that a crop is turned
_MARGIN = 3.0  # px around a turned crop that the interpolation needs
_NOISE = 1.5 / 255  # standard deviation of the noise of a camera's sensor
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
    """Writes the photographs and masks of one part as PNG files. The same arguments give the same bytes.

    Args:
        folder: where to create the folder `part`; it is created where needed.
        part: one of `PARTS`.
        n_train: number of normal photographs for training.
        n_good: number of normal photographs for testing.
        n_defect_each: number of photographs for testing with each kind of defect.
        size: side of the square photographs in pixels, 64 to 1024.
        seed: seed of crops, light and defects. A photograph does not depend on the number of others.

    Returns:
        `folder / part`. It appears when everything is written, and not before.

    Raises:
        DataError: an argument is out of range, `folder / part` already holds something or cannot be written, or
            scikit-image is not installed.
    """
    _check_arguments(part, size, seed, {"n_train": n_train, "n_good": n_good, "n_defect_each": n_defect_each})
    target = expanded(folder) / part
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(f"{target} already exists and is not empty; delete it or choose another folder.")
        photograph = _photograph(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        with made_beside(target) as scratch:
            made = scratch / part
            made.mkdir()
            (made / "LICENSE.txt").write_text(_LICENSE.format(part=part, source=_SOURCES[part]), encoding="utf-8")
            _write_normals(made / "train" / "good", photograph, part, "train", n_train, size, seed)
            _write_normals(made / "test" / "good", photograph, part, "test", n_good, size, seed)
            for kind in DEFECT_KINDS:
                _write_defects(made, photograph, part, kind, n_defect_each, size, seed)
            if target.exists():
                target.rmdir()
            made.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}; choose another folder.") from None
    return target


def make_normal(photograph: np.ndarray, part: str, split: str, index: int, *, size: int, seed: int) -> np.ndarray:
    """Makes one normal photograph.

    Args:
        photograph: grey uint8 512x512, the source.
        part: one of `PARTS`.
        split: "train" or "test".
        index: number of the photograph within its split.
        size: side S of the result in pixels.
        seed: with part, split and index it determines everything.

    Returns:
        RGB uint8 SxSx3.
    """
    rng = np.random.default_rng([seed, PARTS.index(part), list(REGIONS).index(split), index])
    scene = _scene(photograph[:, REGIONS[split]], part, size, rng)
    return _expose(scene, rng.normal(0, _NOISE, scene.shape))


def make_defective(
    photograph: np.ndarray, part: str, kind: str, index: int, *, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes one photograph for testing, without and with a painted defect.

    Args:
        photograph: grey uint8 512x512, the source.
        part: one of `PARTS`.
        kind: one of `stlm_hub.samples.defects.DEFECT_KINDS`.
        index: number of the photograph within its kind.
        size: side S of the result in pixels.
        seed: with part, kind and index it determines everything.

    Returns:
        Clean and damaged photograph, RGB uint8 SxSx3 with the same light and noise, and the mask, bool SxS. Outside the
        mask the two differ by at most `stlm_hub.samples.defects.TOLERANCE` and rounding.

    Raises:
        DataError: see `stlm_hub.samples.defects.paint`.
    """
    rng = np.random.default_rng([seed, PARTS.index(part), len(REGIONS) + DEFECT_KINDS.index(kind), index])
    scene = _scene(photograph[:, REGIONS["test"]], part, size, rng)
    noise = rng.normal(0, _NOISE, scene.shape)
    damaged, mask = paint(scene, kind, rng)
    return _expose(scene, noise), _expose(damaged, noise), mask


def _check_arguments(part: str, size: int, seed: int, counts: dict[str, int]) -> None:
    if part not in PARTS:
        raise DataError(f'There are no sample photographs of "{part}"; choose one of {", ".join(PARTS)}.')
    if not _is_integer(size) or not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"size is {size!r}; give a whole number from {MIN_SIZE} to {MAX_SIZE} (pixels).")
    for name, value in {"seed": seed, **counts}.items():
        if not _is_integer(value) or value < 0:
            raise DataError(f"{name} is {value!r}; give a whole number of 0 or more.")


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _photograph(part: str) -> np.ndarray:
    try:
        from skimage import data

        return np.asarray(getattr(data, part)())
    except ImportError:
        raise DataError("The sample photographs come with scikit-image: pip install scikit-image") from None


def _scene(region: np.ndarray, part: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop of a region: turned, mirrored, enlarged, tinted and lit. RGB float32 SxSx3 in [0, 1]."""
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
    slope = rng.uniform(-0.08, 0.08, 2)  # brightness from side to side: the lamp is never quite above the middle
    lit = lit * (1 + slope[0] * ramp[None] + slope[1] * ramp[:, None])
    scene: np.ndarray = np.clip(lit[..., None] * np.array(_TINT[part]), 0, 1).astype(np.float32)
    return scene


def _expose(scene: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Photographs a scene: adds noise, clips and rounds. Both are SxSx3 with 1 as white; the result is uint8."""
    photograph: np.ndarray = np.round(np.clip(scene + noise, 0, 1) * 255).astype(np.uint8)
    return photograph


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
