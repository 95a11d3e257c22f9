"""Textures that stand for anomalous material: photographs from a folder, or a built-in source of many looks."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import ConfigError, DataError
from ..predict.images import SUFFIXES, list_images
from ..predict.kinds import HEIC_SUFFIXES
from ..validate import expanded
from .texture_looks import LOOKS, draw_look

_READ = tuple(suffix for suffix in SUFFIXES if suffix not in HEIC_SUFFIXES)  # by OpenCV
MAX_SIDE = 1024  # larger photographs are reduced once, on reading
PHOTOGRAPH_SHARE = 0.4  # of the built-in textures; the others are drawn

# Photographs inside scikit-image's wheel, so nothing is downloaded. Its brick, grass and gravel are left out: they are
# the parts of the demo, and a texture must not be the part it is to damage.
BUILTIN_PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)


class TextureSource:
    """Hands out random square textures, reproducibly for a given generator.

    Use `TextureSource.from_folder` or `TextureSource.builtin`.

    Args:
        photographs: image files to crop textures from.
        middle: share of each photograph's height and width, around its centre, that is used; below 1 it leaves out
            black borders and watermarks. In (0, 1].
        looks: names out of `texture_looks.LOOKS` that are drawn as well.
        photograph_share: probability that a texture comes from a photograph where there are looks too.

    Raises:
        ConfigError: there is nothing to draw from, a look is unknown or `middle` is out of range.
    """

    def __init__(
        self,
        photographs: Sequence[Path] = (),
        *,
        middle: float = 1.0,
        looks: Sequence[str] = (),
        photograph_share: float = PHOTOGRAPH_SHARE,
    ) -> None:
        if not photographs and not looks:
            raise ConfigError("A texture source needs photographs or looks; use TextureSource.builtin() for both.")
        unknown = sorted(set(looks) - set(LOOKS))
        if unknown:
            raise ConfigError(f"Unknown texture looks {unknown}; choose out of {sorted(LOOKS)}.")
        if not 0.0 < middle <= 1.0:
            raise ConfigError(f"middle must be above 0 and at most 1, not {middle}.")
        self.photographs = tuple(photographs)
        self.looks = tuple(looks)
        self.middle = middle
        self.photograph_share = photograph_share if looks and photographs else float(bool(photographs))

    @classmethod
    def from_folder(cls, folder: str | Path, *, middle: float = 1.0) -> TextureSource:
        """Textures out of every photograph in a folder and its subfolders, e.g. the Describable Textures Dataset.

        Raises:
            DataError: the folder is missing or holds no photograph.
        """
        folder = expanded(folder)
        if not folder.is_dir():
            raise DataError(f"The texture folder {folder} does not exist; name a folder of photographs.")
        found = sorted(path for path in list_images(folder, recursive=True) if path.suffix.lower() in _READ)
        if not found:
            raise DataError(
                f"The texture folder {folder} holds no photograph ({', '.join(sorted(_READ))}); "
                "add some, or leave the folder out to use the built-in textures."
            )
        return cls(found, middle=middle)

    @classmethod
    def builtin(cls) -> TextureSource:
        """Drawn looks (noise, cells, stripes, weaves, spots, scratches, ...) and scikit-image's own photographs.

        Raises:
            DataError: scikit-image is not installed.
        """
        spec = importlib.util.find_spec("skimage")
        if spec is None or spec.origin is None:
            raise DataError('The built-in textures need scikit-image: pip install "stlm_hub[train]"')
        data = Path(spec.origin).parent / "data"
        return cls([data / name for name in BUILTIN_PHOTOGRAPHS if (data / name).is_file()], looks=tuple(LOOKS))

    def sample(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """One random texture.

        Args:
            size: side in pixels.
            rng: decides everything; the same state gives the same texture.

        Returns:
            (size, size, 3) uint8 RGB.

        Raises:
            DataError: a photograph cannot be read.
        """
        if rng.random() < self.photograph_share:
            path = self.photographs[rng.integers(len(self.photographs))]
            texture = _random_crop(_read(path, self.middle), size, rng)
        else:
            texture = draw_look(self.looks[rng.integers(len(self.looks))], size, rng)
        return augment(texture, rng)


@functools.lru_cache(maxsize=32)
def _read(path: Path, middle: float) -> np.ndarray:
    """The middle of a photograph as RGB uint8, at most MAX_SIDE pixels on its longer side."""
    try:
        encoded = np.fromfile(path, np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except (OSError, cv2.error) as error:
        raise DataError(f"The texture {path} cannot be read ({error}); remove or replace it.") from error
    if image is None:
        raise DataError(f"The texture {path} is not a readable image; remove or replace it.")
    height, width = image.shape[:2]
    keep_y, keep_x = max(1, round(height * middle)), max(1, round(width * middle))
    top, left = (height - keep_y) // 2, (width - keep_x) // 2
    image = image[top : top + keep_y, left : left + keep_x]
    scale = MAX_SIDE / max(image.shape[:2])
    if scale < 1.0:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    image.flags.writeable = False  # shared by every caller
    return image


def _random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of 40 to 100 % of the shorter side, flipped at random and resized."""
    height, width = image.shape[:2]
    side = max(1, round(rng.uniform(0.4, 1.0) * min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = image[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.5:
        crop = crop[::-1]
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=interpolation)


# Augmentation in the manner of DRAEM: three different operations out of a list.


def augment(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies three random operations, one after the other, to an RGB uint8 texture; the shape stays."""
    for index in rng.choice(len(_OPERATIONS), 3, replace=False):
        texture = _OPERATIONS[index](texture, rng)
    return np.ascontiguousarray(texture)


def _gamma(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gammas = np.exp(rng.uniform(np.log(0.5), np.log(2.0), 3))  # one per channel: shifts the colour too
    table = 255.0 * (np.arange(256)[:, None] / 255.0) ** gammas
    return cv2.LUT(texture, table.round().astype(np.uint8)[None])


def _brightness(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    table = np.arange(256) * rng.uniform(0.8, 1.2) + rng.uniform(-30.0, 30.0)
    return cv2.LUT(texture, table.clip(0, 255).astype(np.uint8))


def _solarize(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = np.arange(256)
    return cv2.LUT(texture, np.where(values < rng.integers(32, 129), values, 255 - values).astype(np.uint8))


def _posterize(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dropped = int(rng.integers(3, 7))  # bits
    return cv2.LUT(texture, ((np.arange(256) >> dropped) << dropped).astype(np.uint8))


def _invert(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.bitwise_not(texture)


def _stretch(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = int(texture.min()), int(texture.max())
    table = (np.arange(256) - low) * (255.0 / max(high - low, 1))
    return cv2.LUT(texture, table.clip(0, 255).astype(np.uint8))


def _equalize(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(texture)])


def _hue_saturation(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hsv = cv2.cvtColor(texture, cv2.COLOR_RGB2HSV)
    values = np.arange(256)
    table = np.stack(
        [
            (values + rng.integers(0, 180)) % 180,  # OpenCV's hue is in steps of two degrees
            (values + rng.integers(-50, 51)).clip(0, 255),
            values,
        ],
        axis=-1,
    )
    return cv2.cvtColor(cv2.LUT(hsv, table.astype(np.uint8)[None]), cv2.COLOR_HSV2RGB)


def _sharpness(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = rng.uniform(-0.8, 1.5)  # below 0 it blurs
    return cv2.addWeighted(texture, 1.0 + amount, cv2.GaussianBlur(texture, (0, 0), 1.5), -amount, 0.0)


def _rotate(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = texture.shape[0]
    matrix = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), rng.uniform(-45.0, 45.0), 1.0)
    return cv2.warpAffine(texture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)


_OPERATIONS: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _gamma,
    _brightness,
    _solarize,
    _posterize,
    _invert,
    _stretch,
    _equalize,
    _hue_saturation,
    _sharpness,
    _rotate,
)
