"""ZeroShot from a photograph to a verdict: with a small CLIP, with hand-made maps, and with what is no input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn import texture
from skimage import data

from stlm_hub import ZeroShot
from stlm_hub.errors import ConfigError, ImageError, PictureWarning
from stlm_hub.predict.detector import Detector
from stlm_hub.predict.prediction import Prediction, Unusable
from stlm_hub.zero_shot import detector as zero_shot_detector
from stlm_hub.zero_shot.cascade import overlap
from stlm_hub.zero_shot.clip_map import Seen
from stlm_hub.zero_shot.clip_weights import Clip
from stlm_hub.zero_shot.prompts import Prompts
from stlm_hub.zero_shot.segment import SegmentAnything

Showing = Callable[..., ZeroShot]


@pytest.fixture
def model(clip: Clip) -> ZeroShot:
    return ZeroShot(clip, Prompts.load())


@pytest.fixture
def showing(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> Showing:
    """A detector whose CLIP sees this map, and this probability of the whole."""

    def make(anomaly_map: np.ndarray, whole: float = 0.9, sam: SegmentAnything | None = None) -> ZeroShot:
        seen = Seen(anomaly_map.astype(np.float32), whole)
        monkeypatch.setattr(zero_shot_detector, "see", lambda _, images, __: [seen] * len(images))
        return ZeroShot(clip, Prompts.load(), sam)

    return make


def defect(shape: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int], angle: float = 20.0) -> np.ndarray:
    """HxW bool: an ellipse; centre and axes are (x, y)."""
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
    return mask > 0


def patches_of(mask: np.ndarray, blur: float = 0.8) -> np.ndarray:
    """37x37 in [0, 1]: what a detector of patches would say of a mask, 0.9 at its middle."""
    coarse = cv2.resize(mask.astype(np.float32), (37, 37), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(coarse, (0, 0), blur)
    return 0.9 * blurred / max(blurred.max(), 1e-6)


# ---------------------------------------------------------------- the whole path


def test_from_files_to_a_verdict(clip_folder: Path, tmp_path: Path) -> None:
    model = ZeroShot.from_pretrained(clip_folder, device="cpu")
    assert model.name == "zero-shot small" and model.input_size == (296, 296) and model.calibration is None
    one = model.predict(texture(60, 90), part="bottle", refine=False)
    assert isinstance(one, Prediction) and one.anomaly_map.shape == (60, 90) and one.anomaly_map.std() > 0
    many = model.predict([texture(60, 90), texture(40, 40)], part="bottle", refine=False)
    np.testing.assert_allclose(many[0].anomaly_map, one.anomaly_map, atol=1e-6)
    assert many[1].anomaly_map.shape == (40, 40)
    other = model.predict(texture(60, 90), refine=False)
    assert other.score != one.score  # "object" is another text
    with pytest.raises(ConfigError, match="cannot be used here"):
        ZeroShot.from_pretrained(clip_folder, device="abacus")
    with pytest.raises(ConfigError, match="cannot be read"):
        ZeroShot.from_pretrained(clip_folder, prompts=tmp_path / "none.yaml")


def test_it_is_a_detector(model: ZeroShot) -> None:
    detector: Detector = model
    assert {name for name in vars(Detector) if not name.startswith("_")} <= set(dir(detector))
    for method in ("predict", "predict_many"):
        ours, theirs = (inspect.signature(getattr(one, method)).parameters for one in (ZeroShot, Detector))
        assert {name: ours[name] for name in theirs} == dict(theirs)
        more = [parameter for name, parameter in ours.items() if name not in theirs]
        assert all(one.kind is one.KEYWORD_ONLY and one.default is None for one in more)


def test_many_are_judged_one_after_the_other(model: ZeroShot, tmp_path: Path) -> None:
    found = list(model.predict_many([texture(40, 50), tmp_path / "none.png", texture(50, 40)], refine=False))
    assert [type(one) for one in found] == [Prediction, Unusable, Prediction]
    with pytest.raises(ConfigError, match="must be named in"):
        model.predict_many([], part="")  # before any photograph is asked for


def test_what_may_be_wrong_with_a_photograph_stands_in_its_prediction(model: ZeroShot) -> None:
    dark = texture(40, 50).astype(np.uint16) * 16  # a camera of 12 bits in a file of 16
    with pytest.warns(PictureWarning, match="12 bits"):
        one = model.predict(dark, refine=False)
    (of_many,) = model.predict_many([dark], refine=False)
    assert isinstance(of_many, Prediction) and one.notes == of_many.notes != ()


def test_texts_of_a_part_are_embedded_once(model: ZeroShot) -> None:
    assert model.text("bottle") is model.text(" bottle ") is not model.text("nut")


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("whole", "options", "verdict"),
    [
        (0.9, {}, "reject"),
        (0.1, {}, "review"),  # nothing vouches for a good one
        (0.0, {}, "review"),
        (0.1, {"threshold": 0.6}, "pass"),
        (0.9, {"threshold": 0.6}, "reject"),
        (0.5, {"threshold": 0.6, "review_threshold": 0.4}, "review"),
        (0.5, {"threshold": 0.6, "review_threshold": 0.55}, "pass"),
        (0.1, {"review_threshold": 0.4}, "pass"),
    ],
)
def test_a_good_one_is_vouched_for_only_at_a_threshold_of_ones_own(
    showing: Showing, whole: float, options: dict[str, float], verdict: str
) -> None:
    prediction = showing(np.full((37, 37), whole), whole).predict(texture(40, 40), refine=False, **options)
    assert prediction.verdict == verdict and prediction.score == pytest.approx(whole)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": "high"}, {"review_threshold": 0.7}])
def test_thresholds_out_of_range_are_refused(model: ZeroShot, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        model.predict(texture(40, 40), refine=False, **options)


# ---------------------------------------------------------------- known geometry


@pytest.mark.parametrize("axes", [(70, 40), (28, 20)])
def test_segment_anything_finds_the_outline_of_what_clip_shows(
    showing: Showing, sam: SegmentAnything, axes: tuple[int, int]
) -> None:
    image = np.repeat(data.brick()[..., None], 3, axis=2)
    mask = defect((512, 512), (300, 180), axes)
    image[mask] = (200, 30, 40)
    model = showing(patches_of(mask), sam=sam)
    coarse = model.predict(image, part="wall", refine=False)
    sharp = model.predict(image, part="wall")
    assert coarse.verdict == sharp.verdict == "reject" and coarse.score == sharp.score
    assert overlap(sharp.mask, mask) > max(0.85, overlap(coarse.mask, mask) + 0.05)


def test_a_photograph_of_40_megapixels(showing: Showing, sam: SegmentAnything) -> None:
    image = np.full((5000, 8000, 3), 90, np.uint8)
    mask = defect((5000, 8000), (5200, 1500), (420, 300))
    image[mask] = (200, 30, 40)
    prediction = showing(patches_of(mask), sam=sam).predict(image)
    assert prediction.anomaly_map.shape == (5000, 8000) and overlap(prediction.mask, mask) > 0.85


# ---------------------------------------------------------------- nothing to find, and no input


@pytest.mark.parametrize(("value", "verdict", "share"), [(0.0, "review", 0.0), (1.0, "reject", 1.0)])
def test_an_empty_and_a_full_map(showing: Showing, value: float, verdict: str, share: float) -> None:
    """Neither has a region to outline, so no weights of Segment Anything are asked for."""
    prediction = showing(np.full((37, 37), value), value).predict(texture(60, 80))
    assert prediction.verdict == verdict and prediction.mask.mean() == share
    assert prediction.to_dict()["score"] == value


def test_no_point_is_found_in_a_speck(showing: Showing) -> None:
    """One pixel of the photograph reaches the threshold: too small a region for Segment Anything."""
    speck = np.zeros((256, 256), np.float32)
    speck[100, 30] = 0.9
    prediction = showing(speck).predict(texture(256, 256))
    assert prediction.verdict == "reject" and np.argwhere(prediction.mask).tolist() == [[100, 30]]


def test_a_large_photograph_has_a_map_of_its_size(model: ZeroShot) -> None:
    prediction = model.predict(np.zeros((5000, 8000, 3), np.uint8), refine=False)
    assert prediction.anomaly_map.shape == (5000, 8000) and np.isfinite(prediction.score)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5001, 8000), (8, 500, 3)])
def test_photographs_outside_the_limits_are_told(model: ZeroShot, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=f"is {shape[1]} x {shape[0]} pixels"):
        model.predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("part", [7, "", "a\tb", "nut <end_of_text>", "部" * 60])
def test_a_part_that_is_no_name_is_told(model: ZeroShot, part: Any) -> None:
    with pytest.raises(ConfigError, match=r"in fewer words|must be named in"):
        model.predict(texture(40, 40), part=part)
