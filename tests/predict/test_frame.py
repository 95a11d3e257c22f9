"""Between the frame of a photograph and that of the network."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from drawn import grey, texture

from stlm_hub.predict.frame import resize_image, to_frame, to_input


def test_shrinking_averages_so_that_thin_lines_stay() -> None:
    lines = grey(0, 512, 1024)
    lines[:, ::8] = 240  # one line for each half of a column of the small image
    small = resize_image(lines, (64, 64))
    assert small.shape == (64, 64, 3) and small.dtype == np.uint8
    assert small.min() == small.max() == 30


@pytest.mark.parametrize("shape", [(32, 32), (16, 200), (200, 16)])
def test_enlarging_is_bilinear(shape: tuple[int, int]) -> None:
    image = texture(*shape)
    expected = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_image(image, (64, 64)), expected)


@pytest.mark.parametrize("make", [grey, lambda value: texture(64, 64)])
def test_an_image_of_the_right_size_stays_as_it_is(make: Callable[[int], np.ndarray]) -> None:
    image = make(5)
    assert resize_image(image, (64, 64)) is image


def test_photographs_of_any_size_are_one_input() -> None:
    images = [texture(64, 64), texture(100, 40, 1), texture(9, 200, 2)]
    made = to_input(images, (64, 64))
    assert made.shape == (3, 3, 64, 64) and made.dtype == torch.float32
    for image, one in zip(images, made, strict=True):
        assert np.array_equal(one.permute(1, 2, 0).numpy(), resize_image(image, (64, 64)))
    assert to_input(images, (64, 64), torch.device("meta")).device.type == "meta"


def test_a_map_comes_back_into_the_frame_of_the_photograph() -> None:
    small = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    for shape in ((40, 90), (8, 8), (16, 31)):
        made = to_frame(small, shape)
        assert made.shape == shape and made.dtype == np.float32 and made.min() >= 0 and made.max() <= 1
        np.testing.assert_allclose(made, cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR), atol=1e-6)
    assert to_frame(small, (16, 16)) is small
