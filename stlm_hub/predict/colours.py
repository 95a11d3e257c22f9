"""Embedded colour profiles -> sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 2**24
"""Larger profiles are not applied. Printers' profiles have up to 3 MB."""
SAME = 2
"""Levels of 255. A profile that changes no colour by more counts as sRGB, and the pixels stay as they are."""

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Colour space of a valid profile for each mode. Another one is left over from before the picture was converted."""


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """Converts a picture to sRGB.

    Args:
        image: decoded.
        profile: ICC profile; None or empty: there is none, and the picture is returned as it is.

    Returns:
        The picture: converted to RGB if the profile differs from sRGB, else as it is. And why the profile was not
        applied, as the end of a sentence that begins with the picture's name; "": it was, or there is none.
    """
    if not profile or image.mode not in _SPACES:
        return image, ""
    if len(profile) > MAX_PROFILE_BYTES:
        return image, f"has a colour profile of more than {MAX_PROFILE_BYTES // 2**20} MB, which is not applied"
    try:
        described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if described.profile.xcolor_space.strip() != _SPACES[image.mode]:
            return image, ""
        transform = ImageCms.buildTransform(described, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if image.mode != "CMYK" and _changes_little(transform, image.mode):
            return image, ""
        converted = ImageCms.applyTransform(image, transform)
        return image if converted is None else converted, ""  # None: converted in place
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile, or one of another mode
        return image, "has a colour profile that cannot be used and is not applied"


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform from mode "L" or "RGB" changes none of a grid of colours by more than `SAME`."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    if mode == "L":
        before = levels[None]
        plain = np.repeat(before[..., None], 3, axis=2)
    else:
        before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3)
        plain = before
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(before)), transform))
    return int(np.abs(after.astype(int) - plain).max()) <= SAME
