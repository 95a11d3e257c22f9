"""Embedded colour profiles: what a picture's numbers mean, where that is not sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 2**24
"""Larger ones are not applied. Printers' profiles have up to 3 MB."""
SAME = 2
"""Levels of 255: a profile that moves no colour by more is taken for sRGB, and the pixels stay as they are."""

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""What a profile of each mode describes. One of another space, left over when a picture was made grey, says nothing."""


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """A picture in the colours of sRGB.

    Args:
        image: decoded.
        profile: ICC profile; None or empty: there is none, and the picture is returned as it is.

    Returns:
        RGB where the profile says other colours than sRGB, else the picture as it is; and why a profile was not
        applied, as the end of a sentence, or "".
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
        return image if converted is None else converted, ""  # None is of a conversion in place
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # of a damaged profile, or one of another mode
        return image, "has a colour profile that cannot be used and is not applied"


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    if mode == "L":
        before = levels[None]
        plain = np.repeat(before[..., None], 3, axis=2)
    else:
        before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3)
        plain = before
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(before)), transform))
    return int(np.abs(after.astype(int) - plain).max()) <= SAME
