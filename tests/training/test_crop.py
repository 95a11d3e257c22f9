"""Training on windows at the part: where they lie, what is made of them, and that the whole photographs follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from stlm_hub.errors import ConfigError, TrainingError
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import data
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.crop import Window, draw_window
from stlm_hub.training.data import NormalPhotographs, Place, StepSampler, collate
from stlm_hub.training.loop import StepReport, learning_rate_factor, train
from stlm_hub.training.objective import LossModule, check, load_starting_weights
from stlm_hub.training.pseudo_anomalies.foreground import foreground
from stlm_hub.training.pseudo_anomalies.synthesis import SynthesisConfig
from stlm_hub.training.pseudo_anomalies.textures import TextureSource
from stlm_hub.training.targets import Targets
from stlm_hub.training.teacher import MobileTeacher

SIZE, CROP = 128, 64


def settings(**fields: Any) -> TrainingConfig:
    return TrainingConfig(**{"teacher": "mobile", "precision": "no", "crop": CROP, **fields})


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of a dark pin on a light ground, each with its pin elsewhere."""
    folder = tmp_path_factory.mktemp("pins")
    for i in range(6):
        rng = np.random.default_rng(i)
        image = np.clip(rng.normal(200.0, 2.0, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        cv2.line(image, (20 + 8 * i, 14), (50 + 8 * i, 110), (60, 70, 80), 10)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return sorted(folder.iterdir())


def test_a_window_lies_around_a_random_pixel_of_the_part_and_inside_the_photograph() -> None:
    part = np.zeros((100, 100), bool)
    part[2:30, 40:95] = True
    rng = np.random.default_rng(0)
    windows = [draw_window(part, 32, rng) for _ in range(300)]
    for window in windows:
        assert 0 <= window.left <= 68 and 0 <= window.top <= 68
        assert part[window.top : window.top + 32, window.left : window.left + 32].any()
        middle = window.top + 16, window.left + 16
        moved = window.left in (0, 68) or window.top in (0, 68)
        assert moved or part[middle]
    assert len({window.left for window in windows}) > 40  # all over the part
    assert {window.top for window in windows} == set(range(14))  # 2..29, moved down where they would reach out
    again = np.random.default_rng(0)
    assert windows[:9] == [draw_window(part, 32, again) for _ in range(9)]


def test_a_window_cuts_its_pixels_and_tells_its_shares() -> None:
    window = Window(left=16, top=32, side=64, size=128)
    image = np.arange(128 * 128).reshape(128, 128)
    np.testing.assert_array_equal(window.cut(image), image[32:96, 16:80])
    assert window.shares().tolist() == [0.125, 0.25, 0.625, 0.75]


def test_a_sample_is_a_window_of_the_photograph_with_its_anomaly_on_the_part(
    pins: list[Path], textures: TextureSource
) -> None:
    config = settings(synthesis=SynthesisConfig(families=("perlin", "nsa", "erase"), probability=1.0, on_part=True))
    dataset = NormalPhotographs(pins, SIZE, config, textures)
    for i in range(6):
        sample, photograph = dataset[3, i, True], dataset.photograph(i)
        left, top, right, bottom = (SIZE * sample["window"]).int().tolist()
        assert (right - left, bottom - top) == (CROP, CROP)
        there = (slice(top, bottom), slice(left, right))
        np.testing.assert_array_equal(sample["clean"].permute(1, 2, 0), photograph[there])
        mask = sample["mask"][0].numpy() > 0
        assert mask.shape == (CROP, CROP) and mask.any() and sample["pasted"]
        assert not (mask & ~foreground(photograph)[there]).any()
        assert sample["key"] == ""  # no teacher will see these pixels again
    whole = dataset[3, 0]
    assert whole["clean"].shape == (3, SIZE, SIZE) and whole["window"] is None and whole["key"] == "0"


def test_the_last_steps_see_whole_photographs() -> None:
    config = settings(steps=20, crop_share=0.85)
    assert config.whole_from(20) == 17
    steps = list(StepSampler(6, 2, 0, 0, 20, whole_from=config.whole_from(20)))
    assert [all(place.windowed for place in batch) for batch in steps] == 17 * [True] + 3 * [False]
    assert not any(place.windowed for batch in steps[17:] for place in batch)
    assert settings(steps=4, crop_share=0.9).whole_from(4) == 3  # the last one at least
    assert TrainingConfig(steps=20).whole_from(20) == 0  # as the paper trains


def test_every_decoder_is_told_the_windows(
    pins: list[Path], textures: TextureSource, starting_weights: StartingWeights, make_network: Callable[..., Any]
) -> None:
    dataset = NormalPhotographs(pins, SIZE, settings(synthesis=SynthesisConfig(probability=1.0)), textures)
    batch = collate([dataset[Place(0, 0, True)], dataset[Place(0, 1, True)]])
    assert batch["windows"].shape == (2, 4) and batch["clean"].shape == (2, 3, CROP, CROP)
    for fields in (
        {},
        {"plain_stream": "frozen"},
        {"plain_stream": "frozen", "frozen_stages": 1},
        {"frozen_stages": 1},
    ):
        network: STLMNetwork = make_network(0, image_size=SIZE)
        config = settings(**fields)
        load_starting_weights(network, starting_weights, config)
        module = LossModule(network.eval(), config, starting_weights)  # no step has moved it: it is the teacher
        teacher = MobileTeacher(starting_weights, ("embedding", "decoder"), config.frozen_stages)
        with torch.no_grad():
            clean, pseudo = Targets(teacher, 2**30)(batch, torch.device("cpu"))
            told, not_told = (
                module(batch["pseudo"].float(), batch["mask"], clean, pseudo, "all", windows)
                for windows in (batch["windows"], None)
            )
        assert told["plain"] == pytest.approx(0, abs=1e-5), fields
        assert not_told["plain"] > 1e-4, fields
        assert told["denoising"] != not_told["denoising"], fields


def test_the_teacher_is_told_the_window_of_each_image(
    pins: list[Path], textures: TextureSource, starting_weights: StartingWeights
) -> None:
    config = settings(synthesis=SynthesisConfig(probability=0.5))
    dataset = NormalPhotographs(pins, SIZE, config, textures)
    samples = [dataset[epoch, i, True] for epoch in range(3) for i in range(6)]
    batch = collate([next(s for s in samples if s["pasted"] == pasted) for pasted in (False, True)])
    assert not torch.equal(*batch["windows"])
    teacher = MobileTeacher(starting_weights, ("decoder",))
    clean, pseudo = Targets(teacher, 0)(batch, torch.device("cpu"))
    for found, images in ((clean, batch["clean"]), (pseudo, batch["pseudo"])):
        for i in range(2):
            alone = teacher(images[i : i + 1].float(), batch["windows"][i : i + 1])["decoder"]
            torch.testing.assert_close(found["decoder"][i : i + 1], alone, rtol=0, atol=2e-3)  # half precision


def test_nsa_takes_its_patch_from_the_part_of_the_other_photograph(
    pins: list[Path], textures: TextureSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[np.ndarray] = []
    real = data.synthesize

    def spy(image: np.ndarray, rng: Any, config: Any, source: Any, other: np.ndarray, part: Any) -> Any:
        others.append(other)
        return real(image, rng, config, source, other, part)

    monkeypatch.setattr(data, "synthesize", spy)
    dataset = NormalPhotographs(pins, SIZE, settings(synthesis=SynthesisConfig(families=("nsa",))), textures)
    for epoch in range(10):
        dataset[epoch, 0, True]
    assert all(other.shape == (CROP, CROP, 3) and (other < 120).any() for other in others)  # the dark pin


def test_learning_rates_start_anew_for_whole_photographs() -> None:
    config = settings(steps=100, crop_share=0.8, warmup_steps=4, final_learning_rate=0.1)
    factors = [learning_rate_factor(*config.step_in_stage(step, 100), config) for step in range(100)]
    assert factors[79] < 0.11 and factors[80] == 0.25 and factors[84] > 0.9 and factors[99] < 0.12


def test_the_time_that_is_left_counts_the_larger_steps_to_come() -> None:
    assert StepReport(10, 20, {}, 2.0).seconds_left == 20
    assert StepReport(10, 20, {}, 2.0, further=15.0).seconds_left == 50


def test_nothing_is_kept_of_a_window(
    pins: list[Path], textures: TextureSource, starting_weights: StartingWeights
) -> None:
    dataset = NormalPhotographs(pins, SIZE, settings(synthesis=SynthesisConfig(probability=0.0)), textures)
    targets = Targets(MobileTeacher(starting_weights, ("embedding",)), 2**30)
    for seen, windowed in ((2, True), (4, True), (6, False), (6, False)):
        targets(collate([dataset[0, i, windowed] for i in range(2)]), torch.device("cpu"))
        assert targets.images_seen == seen


def test_a_training_on_windows_that_was_cut_off_goes_on_with_the_losses_it_would_have_had(
    pins: list[Path],
    textures: TextureSource,
    starting_weights: StartingWeights,
    make_network: Callable[..., Any],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(steps=4, crop_share=0.75, rotation="quarter", checkpoint_every=100)

    def fit(folder: Path, stop_after: int, **fields: Any) -> list[float]:
        asked = iter(range(1, 9))
        log = train(
            make_network(0, image_size=SIZE),
            pins,
            dataclasses.replace(config, **fields),
            starting_weights,
            folder,
            textures=textures,
            should_stop=lambda: next(asked) == stop_after,
        )
        return [record["total"] for record in log]

    seen: list[tuple[int, int | None]] = []
    real = LossModule.forward

    def spy(self: LossModule, *args: Any) -> dict[str, torch.Tensor]:
        seen.append((args[0].shape[-1], None if args[5] is None else len(args[5])))
        return real(self, *args)

    monkeypatch.setattr(LossModule, "forward", spy)
    whole = fit(run_folder / "whole", 9)
    assert seen == 3 * [(CROP, 2)] + [(SIZE, None)]
    assert len(fit(run_folder / "cut", 2)) == 2
    for fields in ({"crop": 80}, {"crop_share": 0.5}):
        with pytest.raises(TrainingError, match=r"holds checkpoints of another training \(crop"):
            fit(run_folder / "cut", 9, **fields)
    assert fit(run_folder / "cut", 9) == whole


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"crop": 40}, "crop must be 0 or a multiple of 16 from 64, not 40"),
        ({"crop": 48}, "crop must be 0 or a multiple of 16 from 64, not 48"),
        ({"crop": 224, "teacher": "vit_h"}, 'crop needs teacher "mobile"'),
        ({"crop": 224, "distillation": "masks"}, 'distillation "features"'),
        ({"crop_share": 1.5}, "crop_share must be a number from 0.0 to 1.0"),
        ({"crop_share": 1.0}, "crop_share must be above 0 and below 1"),
        ({"aggregation": "two_stage"}, 'crop needs aggregation "one_stage" or "none"'),
    ],
)
def test_settings_that_do_not_go_with_windows_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        settings(**fields)


def test_a_window_has_to_be_smaller_than_the_photograph(make_network: Callable[..., Any]) -> None:
    with pytest.raises(TrainingError, match="A crop of 128 px is no part of photographs at image_size 128"):
        check(make_network(0, image_size=SIZE).config, settings(crop=128))
