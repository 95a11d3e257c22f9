from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.robustness import moved


@pytest.mark.parametrize(("shift", "degrees"), [(0.02, 0.0), (0.0, 2.0), (0.05, -3.0)])
def test_what_is_moved_shows_no_border_that_no_camera_saw(
    shift: float, degrees: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    found = moved(image, shift, degrees)
    monkeypatch.setattr(cv2, "BORDER_REPLICATE", cv2.BORDER_CONSTANT)
    np.testing.assert_array_equal(found, moved(image, shift, degrees))
    assert found.size > 0.7 * image.size


def test_a_shift_moves_the_photograph() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3)).astype(np.uint8)
    np.testing.assert_array_equal(moved(image, 0.02, 0.0), image[:98, :196])
