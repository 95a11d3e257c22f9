"""What changes between two photographs of the same good part: light, focus, sensor, compression, a loose fixture.

A model that has seen a good part disturbed in these ways does not take the disturbance for a defect. Nothing here is
of the paper. Geometric changes fill what they uncover with the nearest pixels of the border.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np

from ..errors import ConfigError
from ..validate import check_fields, check_integer, check_number

CAMERAS = {"fixed": 0.3, "normal": 1.0, "rough": 1.7}
"""How much a camera's photographs of one part differ, as a factor of the defaults of `Nuisance`."""

LONGEST_SIDE = 1024
"""Whole photographs are disturbed at no more than this many pixels on the long side, or those of a larger frame: what
has more is brought to a smaller size anyway, where noise averages out."""


@dataclass(frozen=True)
class Nuisance:
    """How strong each disturbance may be; 0 leaves it out. Each is drawn evenly up to its bound.

    Args:
        gain: brightness as a whole, +- this share.
        colour: brightness of each colour, +- this share.
        fall_off: brightness from one side of the photograph to the other, +- this share at either side.
        blur: standard deviation of a Gaussian in px, in half of the photographs.
        noise: standard deviation in grey levels.
        jpeg_quality: lowest quality that a photograph is compressed with, in three of five; 100 leaves it out.
        shift: of the part in the frame, +- this share of the side, in half of the photographs.
        turn: of the part, +- degrees, together with the shift.
    """

    gain: float = 0.15
    colour: float = 0.05
    fall_off: float = 0.15
    blur: float = 1.2
    noise: float = 6.0
    jpeg_quality: int = 60
    shift: float = 0.02
    turn: float = 2.0

    def __post_init__(self) -> None:
        limits = {"gain": 0.9, "colour": 0.5, "fall_off": 0.9, "blur": 20.0, "noise": 100.0, "shift": 0.3, "turn": 45.0}
        for name, highest in limits.items():
            check_number(f"nuisance {name}", getattr(self, name), 0.0, highest)
        check_integer("nuisance jpeg_quality", self.jpeg_quality, 10, 100)

    @classmethod
    def from_dict(cls, data: Any) -> Nuisance:
        """Raises ConfigError for a field that does not exist or has an impossible value."""
        return cls(**check_fields("nuisance", data, [field.name for field in fields(cls)]))

    def scaled(self, factor: float) -> Nuisance:
        """All bounds times a factor, within what is allowed."""
        return replace(
            self,
            gain=min(0.9, self.gain * factor),
            colour=min(0.5, self.colour * factor),
            fall_off=min(0.9, self.fall_off * factor),
            blur=min(20.0, self.blur * factor),
            noise=min(100.0, self.noise * factor),
            jpeg_quality=max(10, round(100 - (100 - self.jpeg_quality) * factor)),
            shift=min(0.3, self.shift * factor),
            turn=min(45.0, self.turn * factor),
        )


def of_camera(camera: str) -> Nuisance:
    """The disturbances of a camera, one of `CAMERAS`.

    Raises:
        ConfigError: there is no such camera.
    """
    if camera not in CAMERAS:
        raise ConfigError(f"camera must be one of {', '.join(CAMERAS)}, not {camera!r:.60}.")
    return Nuisance().scaled(CAMERAS[camera])


def disturb(image: np.ndarray, rng: np.random.Generator, nuisance: Nuisance) -> np.ndarray:
    """The same part, photographed again.

    Args:
        image: HxWx3 uint8 RGB.
        rng: decides everything.
        nuisance: how strong each disturbance may be.

    Returns:
        HxWx3 uint8 RGB.
    """
    pixels = _move(image, rng, nuisance).astype(np.float32)
    height, width = pixels.shape[:2]
    pixels *= rng.uniform(-nuisance.gain, nuisance.gain) + 1.0
    pixels *= (rng.uniform(-nuisance.colour, nuisance.colour, 3) + 1.0).astype(np.float32)
    across, down = rng.uniform(-nuisance.fall_off, nuisance.fall_off, 2)
    columns, rows = np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height)
    pixels *= (1.0 + across * columns[None, :] + down * rows[:, None]).clip(0.0).astype(np.float32)[..., None]
    if nuisance.blur and rng.random() < 0.5:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), nuisance.blur * rng.uniform(0.25, 1.0)), np.float32)
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(0.0, nuisance.noise))
    result: np.ndarray = pixels.clip(0, 255).round().astype(np.uint8)
    if nuisance.jpeg_quality < 100 and rng.random() < 0.6:
        result = _compressed(result, int(rng.integers(nuisance.jpeg_quality, 99)))
    return result


def photographed_again(
    image: np.ndarray, rng: np.random.Generator, nuisance: Nuisance, frame: tuple[int, int]
) -> np.ndarray:
    """`disturb` for a whole photograph that is brought to a frame of this height and width afterwards."""
    return disturb(_bounded(image, max(LONGEST_SIDE, *frame)), rng, nuisance)


def _bounded(image: np.ndarray, most: int) -> np.ndarray:
    longest = max(image.shape[:2])
    if longest <= most:
        return image
    height, width = (max(1, round(side * most / longest)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _move(image: np.ndarray, rng: np.random.Generator, nuisance: Nuisance) -> np.ndarray:
    if not (nuisance.shift or nuisance.turn) or rng.random() < 0.5:
        return image
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-nuisance.turn, nuisance.turn), 1.0)
    matrix[:, 2] += rng.uniform(-nuisance.shift, nuisance.shift, 2) * np.array((width, height))
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
