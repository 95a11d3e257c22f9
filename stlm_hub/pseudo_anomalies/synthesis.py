"""Pseudo anomalies: a normal photograph in, the same photograph with a synthetic defect and its mask out.

The paper trains on Perlin-shaped pieces of foreign texture (section 3.1, equation 1); NSA and CutPaste are its ablation
(Table 11). Erased pieces and anomalies on the part alone are not of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import ConfigError, ImageError
from ..validate import check_flag, check_integer, check_number
from .cutpaste import cutpaste_patch, cutpaste_scar, cutpaste_union
from .erase import erase
from .foreground import foreground
from .nsa import nsa
from .perlin import MIN_MASK_FRACTION, perlin_mask
from .square import put_back, random_square
from .textures import TextureSource

FAMILIES = ("perlin", "nsa", "cutpaste_patch", "cutpaste_scar", "cutpaste_union", "erase")
MAX_DRAWS = 50  # of an anomaly that is to lie on the part


@dataclass(frozen=True)
class SynthesisConfig:
    """How often and how a photograph is damaged. Defaults are the paper's.

    Args:
        families: one or more of `FAMILIES`; each anomalous image draws one of them at random. A name given
            twice is drawn twice as often.
        probability: share of images that get a pseudo anomaly, in [0, 1].
        beta_max: opacity of the normal image inside a Perlin anomaly is U(0, beta_max), in [0, 0.99].
        perlin_scale_max_exponent: Perlin noise has 2^U{0..this} cells per axis, in 0..8.
        rotation: Perlin noise is turned by U(-rotation, rotation) degrees, in [0, 180].
        threshold: Perlin noise above this value is anomalous, in [0.01, 0.99].
        on_part: anomalies are cut to the part where it stands out from a plain background, see `foreground`.
    """

    families: tuple[str, ...] = ("perlin",)
    probability: float = 0.5
    beta_max: float = 0.8
    perlin_scale_max_exponent: int = 5
    rotation: float = 90.0
    threshold: float = 0.5
    on_part: bool = False

    def __post_init__(self) -> None:
        families = (self.families,) if isinstance(self.families, str) else self.families
        if not isinstance(families, (list, tuple)) or not families or any(name not in FAMILIES for name in families):
            raise ConfigError(f"families must name one or more of {list(FAMILIES)}, not {families!r:.200}.")
        object.__setattr__(self, "families", tuple(families))
        check_number("probability", self.probability, 0.0, 1.0)
        check_number("beta_max", self.beta_max, 0.0, 0.99)
        check_integer("perlin_scale_max_exponent", self.perlin_scale_max_exponent, 0, 8)
        check_number("rotation", self.rotation, 0.0, 180.0)
        check_number("threshold", self.threshold, 0.01, 0.99)
        check_flag("on_part", self.on_part)


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
) -> tuple[np.ndarray, np.ndarray]:
    """Damages a normal image with probability `config.probability`.

    Args:
        image: (H, W, 3) uint8 RGB, normal. It is not changed in place; where it is no square, a random one is damaged.
        rng: decides everything.
        config: what is done and how often.
        textures: foreign material for the family "perlin".
        other: another normal image of the same part and shape, from which "nsa" takes its patches; by default the
            image itself.

    Returns:
        The image, (H, W, 3) uint8 RGB, and its anomaly mask, (H, W) uint8 of 0 and 1 (all 0 for an image left normal).

    Raises:
        ImageError: an image is not an RGB uint8 array, or `other` has another shape.
    """
    _check("image", image)
    if other is not None:
        _check("other", other)
        if other.shape != image.shape:
            raise ImageError(f"other must have the shape of image, {image.shape}, not {other.shape}.")
    if rng.random() >= config.probability:
        return image.copy(), np.zeros(image.shape[:2], np.uint8)
    family = config.families[rng.integers(len(config.families))]
    place = random_square(image.shape, rng)
    square, beside = (None if whole is None else np.ascontiguousarray(whole[place]) for whole in (image, other))
    assert square is not None
    damage = _damage_part if config.on_part else _damage
    return put_back(image, place, *damage(family, square, rng, config, textures, beside))


def _damage_part(
    family: str,
    image: np.ndarray,
    rng: np.random.Generator,
    config: SynthesisConfig,
    textures: TextureSource,
    other: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The first of `MAX_DRAWS` anomalies that covers enough of the part, cut to it."""
    part = foreground(image)
    least = max(1, round(MIN_MASK_FRACTION * image.shape[0] ** 2))
    for _ in range(MAX_DRAWS):
        result, mask = _damage(family, image, rng, config, textures, other)
        mask = mask * part
        if np.count_nonzero(mask) >= least:
            return np.where(mask[..., None] > 0, result, image), mask
    return _damage(family, image, rng, config, textures, other)  # the part is as small as dust


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
    if family == "nsa":
        result, mask = nsa(image, image if other is None else other, rng)
        if mask.any():
            return result, mask
    # Blending does not show where there is hardly a gradient; a patch with other colours still does.
    return cutpaste_patch(image, rng)


def _check(name: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{name} must be an RGB uint8 array (H, W, 3), not {image.dtype} {image.shape}.")


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
