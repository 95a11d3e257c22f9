"""A few good photographs as a detector; backbones with random weights, which see brightness as well as any."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import texture

from stlm_hub.errors import DataError, ImageError
from stlm_hub.zero_shot.references import References


@pytest.fixture(scope="module")
def good() -> list[np.ndarray]:
    return [texture(96, 128), texture(64, 64)]  # sizes may differ


def test_a_spot_is_farther_than_the_part_itself(good: list[np.ndarray]) -> None:
    detector = References(good, turned=False, backbones=("efficientnet_lite0",), load=False)
    assert detector.calibration is None and detector.name == "2 references"
    spotted = good[0].copy()
    spotted[40:60, 60:90] = (255, 0, 0)
    same, other = detector.predict([good[0], spotted])
    assert same.anomaly_map.shape == (96, 128) and same.score < 0.5 < other.score
    row, column = np.unravel_index(other.anomaly_map.argmax(), other.anomaly_map.shape)
    assert 32 <= row <= 68 and 52 <= column <= 98


def test_wrong_numbers_and_what_is_no_photograph_are_refused(good: list[np.ndarray]) -> None:
    for wrong in ([], good * 3):
        with pytest.raises(DataError, match="give one to 5"):
            References(wrong, load=False)
    with pytest.raises(ImageError):
        References([good[0], "nowhere.jpg"], load=False)
