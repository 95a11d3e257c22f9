"""Pseudo anomalies: a normal photograph in, the same photograph with a synthetic defect and its mask out.

The paper trains on Perlin-shaped pieces of foreign texture (section 3.1, equation 1); NSA and CutPaste are its ablation
(Table 11). Erased pieces, bent ones, and anomalies on the part alone are not of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import ConfigError, ImageError
from .cutpaste import cutpaste_patch, cutpaste_scar, cutpaste_union
from .erase import erase
from .foreground import foreground
from .nsa import nsa
from .perlin import MIN_MASK_FRACTION, perlin_mask
from .textures import TextureSource
from .warp import warp

FAMILIES = ("perlin", "nsa", "cutpaste_patch", "cutpaste_scar", "cutpaste_union", "erase", "warp")
MAX_DRAWS = 50  # of an anomaly that is to lie on the part


@dataclass(frozen=True)
class SynthesisConfig:
    """How often and how a photograph is damaged. Defaults are the paper's.

    Args:
        families: one or more of `FAMILIES`; each anomalous image draws one of them at random. A name given
            twice is drawn twice as often.
        probability: share of images that get a pseudo anomaly, in [0, 1].
        beta_max: opacity of the normal image inside a Perlin anomaly is U(0, beta_max), in [0, 1).
        perlin_scale_max_exponent: Perlin noise has 2^U{0..this} cells per axis, in 0..8.
        rotation: Perlin noise is turned by U(-rotation, rotation) degrees, in [0, 180].
        threshold: Perlin noise above this value is anomalous, in (0, 1).
        on_part: anomalies are cut to the part where it stands out from a plain background, see `foreground`; so what
            "warp" bends out of its margin is lost.
        match_grey: what is put on a grey photograph is grey, as all that its camera ever sees.
    """

    families: tuple[str, ...] = ("perlin",)
    probability: float = 0.5
    beta_max: float = 0.8
    perlin_scale_max_exponent: int = 5
    rotation: float = 90.0
    threshold: float = 0.5
    on_part: bool = False
    match_grey: bool = False

    def __post_init__(self) -> None:
        families = (self.families,) if isinstance(self.families, str) else tuple(self.families)
        unknown = [name for name in families if name not in FAMILIES]
        if unknown or not families:
            raise ConfigError(f"families must name one or more of {list(FAMILIES)}, not {list(families)}.")
        object.__setattr__(self, "families", families)
        _within("probability", self.probability, 0.0, 1.0)
        _within("beta_max", self.beta_max, 0.0, 0.99)
        _within("rotation", self.rotation, 0.0, 180.0)
        _within("threshold", self.threshold, 0.01, 0.99)
        _within("perlin_scale_max_exponent", self.perlin_scale_max_exponent, 0, 8)
        if not isinstance(self.perlin_scale_max_exponent, int):
            raise ConfigError("perlin_scale_max_exponent must be a whole number.")
        for name in ("on_part", "match_grey"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r:.60}.")


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} must be a number from {low} to {high}, not {value!r}.")


def blend(normal: np.ndarray, texture: np.ndarray, mask: np.ndarray, beta: float) -> np.ndarray:
    """Equation 1 of the paper: outside the mask the normal image, inside it (1 - beta) texture + beta normal.

    Args:
        normal: (H, W, 3) uint8.
        texture: (H, W, 3) uint8.
        mask: (H, W) of 0 and 1.
        beta: opacity of the normal image inside the mask, in [0, 1].

    Returns:
        (H, W, 3) uint8, rounded.
    """
    mixed = cv2.addWeighted(texture, 1.0 - beta, normal, beta, 0.0)
    return np.where(mask[..., None] > 0, mixed, normal)


def synthesize(
    image: np.ndarray,
    rng: np.random.Generator,
    config: SynthesisConfig,
    textures: TextureSource,
    other: np.ndarray | None = None,
    part: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Damages a normal image with probability `config.probability`.

    Args:
        image: (S, S, 3) uint8 RGB, normal. It is not changed in place.
        rng: decides everything.
        config: what is done and how often.
        textures: foreign material for the family "perlin".
        other: another normal image of the same part and shape, from which "nsa" takes its patches; by default the
            image itself.
        part: (S, S) bool, where `on_part` puts anomalies; by default what `foreground` finds.

    Returns:
        The image, (S, S, 3) uint8 RGB, and its anomaly mask, (S, S) uint8 of 0 and 1 (all 0 for an image left normal).

    Raises:
        ImageError: an image is not a square RGB uint8 array, or `other` or `part` has another shape.
    """
    _check("image", image)
    if other is not None:
        _check("other", other)
        if other.shape != image.shape:
            raise ImageError(f"other must have the shape of image, {image.shape}, not {other.shape}.")
    if part is not None and part.shape != image.shape[:2]:
        raise ImageError(f"part must have the shape of image, {image.shape[:2]}, not {part.shape}.")
    size = image.shape[0]
    if rng.random() >= config.probability:
        return image.copy(), np.zeros((size, size), np.uint8)
    result, mask = _anomaly(image, rng, config, textures, other, part)
    if config.match_grey and _is_grey(image):
        result = cv2.cvtColor(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return result, mask


def _is_grey(image: np.ndarray) -> bool:
    """Whether a camera without colours took it, on whose photographs an anomaly cannot be told by its colour."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())


def _anomaly(
    image: np.ndarray,
    rng: np.random.Generator,
    config: SynthesisConfig,
    textures: TextureSource,
    other: np.ndarray | None,
    part: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    size = image.shape[0]
    family = config.families[rng.integers(len(config.families))]
    if not config.on_part:
        return _damage(family, image, rng, config, textures, other)
    part = foreground(image) if part is None else part
    least = max(1, round(MIN_MASK_FRACTION * size * size))
    for _ in range(MAX_DRAWS):
        result, mask = _damage(family, image, rng, config, textures, other)
        mask = mask * part
        if np.count_nonzero(mask) >= least:
            break
    else:  # a part as small as dust
        return _damage(family, image, rng, config, textures, other)
    return np.where(mask[..., None] > 0, result, image), mask


def _damage(
    family: str,
    image: np.ndarray,
    rng: np.random.Generator,
    config: SynthesisConfig,
    textures: TextureSource,
    other: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    if family == "perlin":
        return _perlin(image, rng, config, textures)
    if family == "cutpaste_scar":
        return cutpaste_scar(image, rng)
    if family == "cutpaste_union":
        return cutpaste_union(image, rng)
    if family == "erase":
        return erase(image, rng)
    if family == "warp":
        result, mask = warp(image, rng)
        if mask.any():
            return result, mask
    if family == "nsa":
        result, mask = nsa(image, image if other is None else other, rng)
        if mask.any():
            return result, mask
    # Neither blending nor bending shows where there is hardly a gradient; a patch with other colours still does.
    return cutpaste_patch(image, rng)


def _check(name: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
        raise ImageError(f"{name} must be a square RGB uint8 array (S, S, 3), not {image.dtype} {image.shape}.")


def _perlin(
    image: np.ndarray, rng: np.random.Generator, config: SynthesisConfig, textures: TextureSource
) -> tuple[np.ndarray, np.ndarray]:
    size = image.shape[0]
    mask = perlin_mask(
        size,
        rng,
        max_exponent=config.perlin_scale_max_exponent,
        rotation=config.rotation,
        threshold=config.threshold,
    )
    return blend(image, textures.sample(size, rng), mask, rng.uniform(0.0, config.beta_max)), mask
