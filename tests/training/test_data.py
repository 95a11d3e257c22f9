"""The sample stream: who is held out, what comes when, and that a sample depends on seed, epoch and index only."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from stlm_hub.files.fingerprint import fingerprint
from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.pseudo_anomalies.nuisance import Nuisance
from stlm_hub.pseudo_anomalies.synthesis import FAMILIES, SynthesisConfig
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.training import data
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.data import NormalPhotographs, StepSampler, collate, rotate, split_normals


def names(n: int) -> list[Path]:
    return [Path(f"folder/{i:03d}.png") for i in range(n)]


def samples(paths: list[Path], textures: TextureSource, size: int = 64, **fields: Any) -> NormalPhotographs:
    return NormalPhotographs(paths, NetworkConfig((size, size)), TrainingConfig(**{"seed": 3, **fields}), textures)


@pytest.mark.parametrize("n, held_out", [(100, 15), (209, 31), (20, 4), (8, 4), (5, 4), (4, 3), (2, 1)])
def test_split_is_disjoint_complete_and_of_the_stated_size(n: int, held_out: int) -> None:
    split = split_normals(names(n), 0.15, seed=0)
    assert len(split.held_out) == held_out
    assert sorted(split.train + split.held_out) == names(n)


def test_split_depends_on_names_and_seed_only() -> None:
    split = split_normals(names(40), 0.25, seed=0)
    assert split_normals(names(40)[::-1], 0.25, seed=0) == split
    elsewhere = split_normals([Path("other") / path.name for path in names(40)], 0.25, seed=0)
    assert [path.name for path in elsewhere.held_out] == [path.name for path in split.held_out]
    assert split_normals(names(40), 0.25, seed=1) != split


def test_at_least_raises_the_number_held_out() -> None:
    assert len(split_normals(names(30), 0.1, seed=0, at_least=8).held_out) == 8


def test_fingerprint_knows_names_and_contents_but_not_folder_and_order(photographs: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copy(path, tmp_path)) for path in photographs]
    assert fingerprint(copies[::-1]) == fingerprint(photographs)
    assert len(fingerprint(copies)) == len(hashlib.sha256().hexdigest())
    assert fingerprint(copies[1:]) != fingerprint(photographs)
    renamed = copies[0].rename(tmp_path / "renamed.png")
    assert fingerprint([renamed, *copies[1:]]) != fingerprint(photographs)
    renamed.write_bytes(copies[1].read_bytes())
    shutil.move(renamed, copies[0])
    assert fingerprint(copies) != fingerprint(photographs)


def test_every_epoch_is_another_permutation() -> None:
    flat = [position for batch in StepSampler(7, 2, 0, 0, 14) for position in batch]
    assert len(flat) == 28
    epochs = [[index for epoch, index in flat if epoch == e] for e in range(4)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [epoch for epoch, _ in flat] == sorted(epoch for epoch, _ in flat)
    assert list(StepSampler(7, 2, 1, 0, 14)) != list(StepSampler(7, 2, 0, 0, 14))


@pytest.mark.parametrize("n, batch_size, first", [(7, 2, 5), (7, 2, 11), (3, 4, 2), (1, 2, 1)])
def test_a_run_from_step_k_is_the_tail_of_the_run_from_0(n: int, batch_size: int, first: int) -> None:
    whole = list(StepSampler(n, batch_size, 4, 0, 12))
    tail = StepSampler(n, batch_size, 4, first, 12)
    assert list(tail) == whole[first:]
    assert len(tail) == 12 - first == len(whole) - first


def test_processes_share_the_batches_of_one() -> None:
    alone = list(StepSampler(11, 6, 0, 2, 9))
    shares = [list(StepSampler(11, 2, 0, 2, 9, rank, processes=3)) for rank in range(3)]
    assert [first + second + third for first, second, third in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_seed_epoch_and_index_only(
    photographs: list[Path], textures: TextureSource, family: str
) -> None:
    fields: dict[str, Any] = {"rotation": "full", "synthesis": SynthesisConfig(families=(family,), probability=1.0)}
    first, second = (samples(photographs, textures, **fields) for _ in range(2))
    np.random.seed(0)  # noqa: NPY002 - to show that it changes nothing
    torch.manual_seed(0)
    forth = {position: first[position] for position in [(0, 2), (5, 2), (0, 3)]}
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(9)
    for position in [(0, 3), (0, 2), (5, 2)]:
        again = second[position]
        assert all(torch.equal(again[name], forth[position][name]) for name in ("clean", "pseudo", "mask"))
        assert (again["pasted"], again["key"]) == (forth[position]["pasted"], forth[position]["key"])
    assert not torch.equal(forth[0, 2]["pseudo"], forth[5, 2]["pseudo"])
    other_seed = samples(photographs, textures, **fields, seed=4)
    assert not torch.equal(other_seed[0, 2]["pseudo"], forth[0, 2]["pseudo"])


def test_a_worker_process_hands_out_the_same_samples(photographs: list[Path], textures: TextureSource) -> None:
    dataset = samples(photographs, textures, synthesis=SynthesisConfig(families=("perlin", "nsa"), probability=1.0))
    sampler = StepSampler(len(photographs), 3, 0, 1, 3)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=1)
    batches = list(loader)
    assert len(batches) == 2
    for batch, positions in zip(batches, sampler, strict=True):
        direct = collate([dataset[position] for position in positions])
        assert batch.keys() == direct.keys() == {"clean", "pseudo", "mask", "pasted", "key"}
        assert all(torch.equal(batch[name], direct[name]) for name in ("clean", "pseudo", "mask"))
        assert (batch["pasted"], batch["key"]) == (direct["pasted"], direct["key"])


def test_half_of_the_samples_are_disturbed_clean_and_damaged_image_alike(
    photographs: list[Path], textures: TextureSource
) -> None:
    dataset = samples(photographs, textures, nuisance=Nuisance(), synthesis=SynthesisConfig(probability=0.5))
    plain = samples(photographs, textures)
    disturbed = []
    for epoch in range(40):
        sample, clean = dataset[epoch, 3], plain[epoch, 3]["clean"]
        disturbed.append(not torch.equal(sample["clean"], clean))
        assert sample["key"] == ("" if disturbed[-1] else "3")  # what comes back alone has features that are kept
        outside = sample["mask"].expand(3, -1, -1) == 0
        assert torch.equal(sample["pseudo"][outside], sample["clean"][outside])
        assert torch.equal(dataset[epoch, 3]["clean"], sample["clean"])
    assert 10 <= sum(disturbed) <= 30


def test_a_split_has_all_photographs_those_to_train_on_first() -> None:
    split = split_normals(names(20), 0.2, 0)
    assert split.photographs == [*split.train, *split.held_out] and len(split.held_out) == 4


def test_shapes_types_and_ranges_of_a_batch(photographs: list[Path], textures: TextureSource) -> None:
    dataset = samples(photographs, textures, size=128, synthesis=SynthesisConfig(probability=1.0))
    batch = collate([dataset[0, i] for i in range(2)])
    assert batch["clean"].shape == batch["pseudo"].shape == (2, 3, 128, 128)
    assert batch["mask"].shape == (2, 1, 128, 128)
    assert {batch[name].dtype for name in ("clean", "pseudo", "mask")} == {torch.uint8}
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert batch["pasted"] == [True, True] and batch["key"] == ["0", "1"]


def test_where_nothing_is_pasted_the_pseudo_anomalous_image_is_the_clean_one(
    photographs: list[Path], textures: TextureSource
) -> None:
    dataset = samples(photographs, textures, synthesis=SynthesisConfig(families=FAMILIES))
    pasted = 0
    for index in range(48):
        sample = dataset[divmod(index, 8)]
        assert sample["pasted"] == bool(sample["mask"].any())
        assert torch.equal(sample["clean"], sample["pseudo"]) != sample["pasted"]
        outside = (sample["mask"] == 0).expand(3, -1, -1)
        # Poisson blending of "nsa" fades out around its mask
        difference = (sample["clean"].int() - sample["pseudo"].int()).abs()[outside]
        assert difference.numel() == 0 or difference.float().mean() < 2
        pasted += sample["pasted"]
    assert 14 <= pasted <= 34  # half of 48, give or take 3 standard deviations


def test_the_clean_image_is_the_photograph_in_rgb(photographs: list[Path], textures: TextureSource) -> None:
    dataset = samples(photographs, textures)
    bgr = cv2.imread(str(photographs[2]))
    assert bgr is not None
    assert np.array_equal(dataset[7, 2]["clean"].numpy().transpose(1, 2, 0), bgr[..., ::-1])


def test_nsa_takes_its_patch_from_another_photograph(
    photographs: list[Path], textures: TextureSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[np.ndarray | None] = []
    real = data.synthesize

    def spy(image, rng, config, source, other):
        others.append(other)
        return real(image, rng, config, source, other)

    monkeypatch.setattr(data, "synthesize", spy)
    dataset = samples(photographs, textures, synthesis=SynthesisConfig(families=("nsa",), probability=1.0))
    for epoch in range(12):
        dataset[epoch, 5]
    kept = [other for other in others if other is not None]
    assert len(kept) == 12
    seen = {i for i in range(8) for other in kept if np.array_equal(other, dataset.photograph(i))}
    assert 5 not in seen and len(seen) >= 5
    samples(photographs, textures)[0, 0]
    assert others[-1] is None  # not read where "nsa" is not asked for


def test_training_leaves_the_photographs_it_keeps_in_memory_alone(
    photographs: list[Path], textures: TextureSource
) -> None:
    dataset = samples(photographs, textures, synthesis=SynthesisConfig(families=FAMILIES, probability=1.0))
    before = [dataset.photograph(i).copy() for i in range(8)]
    assert dataset.photograph(0) is dataset.photograph(0)
    for index in range(40):
        sample = dataset[divmod(index, 8)]
        sample["clean"].zero_()
        sample["pseudo"].zero_()
    assert all(np.array_equal(dataset.photograph(i), before[i]) for i in range(8))


def test_photographs_that_do_not_fit_into_memory_are_read_again(
    photographs: list[Path], textures: TextureSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "PIXEL_CACHE_BYTES", 8 * 64 * 64 * 3 - 1)
    dataset = samples(photographs, textures)
    assert dataset.photograph(0) is not dataset.photograph(0)
    assert np.array_equal(dataset.photograph(0), dataset.photograph(0))


def test_quarter_turns_are_exact_and_named_in_the_key() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    rng = np.random.default_rng(1)
    keys = set()
    for _ in range(40):
        turned, key = rotate(image, "quarter", rng, "7")
        index, turns = key.split("/")
        assert index == "7" and np.array_equal(turned, np.rot90(image, int(turns)))
        keys.add(key)
    assert keys == {"7/0", "7/1", "7/2", "7/3"}


def test_no_rotation_gives_the_photograph_and_its_key() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    turned, key = rotate(image, "none", np.random.default_rng(1), "7")
    assert key == "7" and np.array_equal(turned, image)


def direction(image: np.ndarray) -> float:
    """Angle of the bar in an image in degrees, by second moments."""
    y, x = np.nonzero(image[..., 0] > 127)
    _, vectors = np.linalg.eigh(np.cov(x, y))
    return float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])) % 180)


@pytest.mark.parametrize("how", ["slight", "full"])
def test_continuous_rotation_stays_within_5_degrees_and_has_no_key(how: str) -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[45:56, 15:86] = 255
    rng = np.random.default_rng(0)
    off = []
    for _ in range(60):
        turned, key = rotate(image, how, rng, "7")
        assert key == ""
        assert turned.shape == image.shape and turned.dtype == np.uint8
        angle = direction(turned)
        nearest = 90 * round(angle / 90)
        off.append((angle - nearest, nearest % 180))
    angles = [angle for angle, _ in off]
    assert max(angles) == pytest.approx(5, abs=0.7) and min(angles) == pytest.approx(-5, abs=0.7)
    assert {axis for _, axis in off} == ({0, 90} if how == "full" else {0})


def test_what_turns_into_the_picture_is_part_of_it() -> None:
    """The border is mirrored: no black corners, which would be anomalies of their own."""
    turned, _ = rotate(np.full((64, 64, 3), 200, np.uint8), "slight", np.random.default_rng(0), "0")
    assert turned.min() == 200
