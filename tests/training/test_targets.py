"""How often the teacher is asked, and that what is remembered is what it said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stlm_hub.training.targets import FeatureCache, Targets

CPU = torch.device("cpu")


class Teacher(nn.Module):
    """Two levels that are easy to foresee; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.asked.append(image.clone())
        pooled = nn.functional.avg_pool2d(image, 16)
        return {"embedding": pooled / 3, "decoder": pooled.sin()}


def batch(keys: list[str], pasted: list[bool], seed: int = 0) -> dict[str, Any]:
    """The clean image belongs to its key, as the same photograph in another epoch would."""
    clean = torch.stack([image(sum(map(ord, key)) if key else 100 * seed + i) for i, key in enumerate(keys)])
    pseudo = clean.clone()
    for i, damaged in enumerate(pasted):
        if damaged:
            pseudo[i] = image(1000 + 10 * seed + i)
    return {"clean": clean, "pseudo": pseudo, "pasted": pasted, "key": keys}


def image(seed: int) -> Tensor:
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def said(images: Tensor) -> dict[str, Tensor]:
    return {level: feature.half().float() for level, feature in Teacher()(images.float()).items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[level], b[level]) for level in a)


def test_targets_are_the_teachers_features_of_clean_and_of_pseudo_anomalous_images() -> None:
    one = batch(["0", "1", "2"], [True, False, True])
    clean, pseudo = Targets(Teacher(), 2**20)(one, CPU)
    assert same(clean, said(one["clean"]))
    assert same(pseudo, said(one["pseudo"]))
    assert clean["embedding"].shape == (3, 3, 2, 2)
    assert clean["embedding"].dtype == torch.float32
    assert not torch.equal(clean["embedding"][0], pseudo["embedding"][0])
    assert torch.equal(clean["embedding"][1], pseudo["embedding"][1])


def test_the_teacher_sees_each_clean_image_that_is_not_kept_and_each_pasted_image_once() -> None:
    teacher = Teacher()
    targets = Targets(teacher, 2**20)
    for keys, pasted, expected in [
        (["0", "1", "2"], [True, False, True], 3 + 2),
        (["0", "1", "2"], [False, False, False], 0),
        (["0", "3"], [True, True], 1 + 2),  # 0 is kept, 3 is not
        (["", "1"], [False, True], 1 + 1),  # turned by a continuous angle; kept
        (["", "1"], [False, False], 1),
    ]:
        before = targets.images_seen
        targets(batch(keys, pasted, seed=1), CPU)
        assert targets.images_seen - before == expected
    assert targets.images_seen == sum(len(images) for images in teacher.asked)


def test_kept_features_are_bit_equal_to_fresh_ones() -> None:
    keeping, forgetting = Targets(Teacher(), 2**20), Targets(Teacher(), 0)
    for seed in range(3):
        one = batch(["0", "1"], [seed == 1, False], seed)
        kept, fresh = keeping(one, CPU), forgetting(one, CPU)
        assert same(kept[0], fresh[0]) and same(kept[1], fresh[1])
    assert (keeping.images_seen, forgetting.images_seen) == (2 + 1, 6 + 1)


def test_what_is_missing_beside_an_image_changes_nothing() -> None:
    """A convolution over two images may round differently from one over one; on a CPU each image goes alone."""
    teacher = Teacher()
    targets = Targets(teacher, 2**20)
    targets(batch(["0", "1", "2"], [True, True, False]), CPU)
    assert all(len(images) == 1 for images in teacher.asked)


def test_an_image_turned_by_a_continuous_angle_is_never_kept() -> None:
    targets = Targets(Teacher(), 2**20)
    for seed in range(3):
        one = batch(["", ""], [False, False], seed)
        clean, _ = targets(one, CPU)
        assert same(clean, said(one["clean"]))
    assert targets.images_seen == 6 and len(targets.cache) == 0


def features(values: int) -> dict[str, Tensor]:
    return {"a": torch.zeros(values, dtype=torch.float16), "b": torch.zeros(values, dtype=torch.float16)}


def test_the_cache_counts_bytes_and_forgets_the_least_recently_used() -> None:
    cache = FeatureCache(1000)
    for key in ("x", "y", "z"):
        cache.put(key, features(75))  # 2 x 75 x 2 = 300 bytes
    assert (len(cache), cache.bytes) == (3, 900)
    assert cache.get("x") is not None  # now y is the oldest
    cache.put("w", features(50))  # 1100 bytes
    assert (len(cache), cache.bytes) == (3, 800)
    assert cache.get("y") is None and cache.get("x") is not None and cache.get("w") is not None
    cache.put("v", features(250))  # 1000 bytes: alone it fits
    assert (len(cache), cache.bytes) == (1, 1000) and cache.get("v") is not None


def test_the_cache_refuses_what_is_too_large_unnamed_or_there_already() -> None:
    cache = FeatureCache(1000)
    cache.put("x", features(251))
    cache.put("", features(1))
    assert (len(cache), cache.bytes) == (0, 0)
    first = features(10)
    cache.put("x", first)
    cache.put("x", features(20))
    assert cache.get("x") is first and cache.bytes == 40


@pytest.mark.parametrize("entries", [0, 1, 2])
def test_a_small_cache_changes_the_work_but_not_the_targets(entries: int) -> None:
    size = 2 * 3 * 2 * 2 * 2  # two levels of 3x2x2 in half precision
    targets = Targets(Teacher(), entries * size)
    for key in ("0", "1", "0", "1"):
        one = batch([key], [False])
        assert same(targets(one, CPU)[0], said(one["clean"]))
        assert targets.cache.bytes <= entries * size
    assert targets.images_seen == (2 if entries == 2 else 4)
