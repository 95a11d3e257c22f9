"""A few good photographs as a detector; the backbone has random weights, which see brightness as well as any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import grey, texture

from stlm_hub.errors import ConfigError, DataError, ImageError, PictureWarning
from stlm_hub.predict.detector import Detector
from stlm_hub.predict.prediction import Prediction, Unusable
from stlm_hub.zero_shot import reference_memory
from stlm_hub.zero_shot import references as module
from stlm_hub.zero_shot.reference_memory import FACTOR, ReferenceMemory, frame
from stlm_hub.zero_shot.references import References

QUICK = {"backbones": ("efficientnet_lite0",), "load": False, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def small_frame_and_the_same_weights() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_memory, "SIDE", 128)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of the backbone's weights
            yield


def part(height: int = 96, width: int = 128, *, seed: int = 0) -> np.ndarray:
    """The same part each time, photographed by a camera with noise."""
    noise = np.random.default_rng(seed).normal(0, 2, (height, width, 3))
    return (texture(height, width) + noise).clip(0, 255).astype(np.uint8)


def spotted(image: np.ndarray) -> np.ndarray:
    changed = image.copy()
    changed[40:60, 60:90] = (255, 0, 0)
    return changed


@pytest.fixture(scope="module")
def two() -> References:
    return References([part(), part(64, 80, seed=1)], **QUICK)  # sizes may differ


@pytest.fixture(scope="module")
def one() -> References:
    return References([part()], **QUICK)


@pytest.mark.parametrize("which", ["one", "two"])
def test_a_spot_is_rejected_where_it_is_and_another_good_part_is_not(
    which: str, request: pytest.FixtureRequest
) -> None:
    detector: Detector = request.getfixturevalue(which)
    assert detector.calibration is None and detector.name == {"one": "1 reference", "two": "2 references"}[which]
    good = detector.predict(part(seed=2), refine=False)
    bad = detector.predict([spotted(part(seed=3))], refine=False)[0]
    assert good.verdict == "pass" and bad.score > good.score + 0.1 and bad.anomaly_map.shape == (96, 128)
    assert which == "one" or bad.verdict == "reject"  # the limit of a single one is generous
    row, column = np.unravel_index(bad.anomaly_map.argmax(), bad.anomaly_map.shape)
    assert 32 <= row <= 68 and 52 <= column <= 98
    assert not good.to_dict()["calibrated"] and "not known" in detector.limit_is
    assert (f"{FACTOR:g} times" in detector.limit_is) == (which == "one")


def test_a_turned_part_is_known(two: References) -> None:
    assert two.predict(np.ascontiguousarray(np.rot90(part(seed=2), 2)), refine=False).verdict == "pass"


def test_the_limit_is_the_farthest_reference_from_the_others() -> None:
    images = [part(), texture(96, 128, seed=5), part(seed=1)]
    memory = ReferenceMemory(images, backbones=("efficientnet_lite0",), load=False)
    framed = [memory._references[n] for n in range(3)]
    left_out = [float(memory.limits(memory.see(image), n)[1]) for n, image in enumerate(framed)]
    assert max(left_out) == pytest.approx(1, abs=1e-4) and int(np.argmax(left_out)) == 1
    assert all(float(memory.limits(memory.see(image))[1]) < 0.5 for image in framed)
    assert [memory.number_of(image) for image in framed] == [0, 1, 2] and memory.number_of(framed[0][::-1]) == -1


def test_a_reference_itself_is_judged_by_the_others(two: References, one: References) -> None:
    """By itself it would have no distance at all; of a single one nothing differs from what it shows."""
    assert 0 < two.predict(part(), refine=False).score <= 0.5
    assert one.predict(part(), refine=False).verdict == "pass"


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(512, 512)], (128, 128)),
        ([(300, 400), (600, 800), (50, 50)], (96, 160)),
        ([(10, 4000)], (64, 256)),
    ],
)
def test_the_frame_has_the_usual_aspect_of_the_references(
    shapes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert frame(shapes) == expected


def test_wrong_references_are_refused(tmp_path: Path) -> None:
    good = part()
    for wrong in ([], [part(seed=n) for n in range(6)]):
        with pytest.raises(DataError, match="give one to 5"):
            References(wrong, **QUICK)
    with pytest.raises(DataError, match="References 1 and 3 are the same photograph"):
        References([good, part(seed=1), good.copy()], **QUICK)
    with pytest.raises(DataError, match="Reference 2 shows one single colour"):
        References([good, grey(7)], **QUICK)
    with pytest.raises(ImageError, match="each side needs at least"):
        References([good, grey(7, 1, 1)], **QUICK)
    (tmp_path / "broken.png").write_bytes(b"none")
    for unreadable in (tmp_path / "broken.png", tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(ImageError):
            References([good, unreadable], **QUICK)
    with pytest.raises(ConfigError, match="cannot be used here"):
        References([good], **(QUICK | {"device": "nothing"}))


def test_small_and_broken_photographs_are_judged_or_named(two: References, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"none")
    sources = [grey(9, 8, 8), grey(9, 1, 1), tmp_path / "broken.png", part(seed=2)]
    small, tiny, broken, last = two.predict_many(sources, refine=False)
    assert isinstance(small, Prediction) and small.anomaly_map.shape == (8, 8) and small.verdict == "reject"
    assert isinstance(tiny, Unusable) and isinstance(broken, Unusable)
    assert isinstance(last, Prediction) and last.verdict == "pass"
    with pytest.raises(ConfigError, match="threshold"):
        two.predict(part(), threshold=2.0)
    assert two.predict(part(seed=2), threshold=0.0, refine=False).verdict == "reject"
    assert two.predict(part(seed=2), review_threshold=0.0, refine=False).verdict == "review"


def test_what_may_be_wrong_with_a_photograph_stands_in_its_prediction(two: References) -> None:
    dark = part().astype(np.uint16) * 16  # a camera of 12 bits in a file of 16
    with pytest.warns(PictureWarning, match="12 bits"):
        one = two.predict(dark, refine=False)
    (of_many,) = two.predict_many([dark], refine=False)
    assert isinstance(of_many, Prediction) and one.notes == of_many.notes != ()


def test_segment_anything_outlines_unless_it_is_told_not_to(two: References, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Prediction] = []

    def refined(prediction: Prediction, sam: object) -> Prediction:
        asked.append(prediction)
        return prediction

    monkeypatch.setattr(module, "refined", refined)
    two.predict(part(seed=2), refine=False)
    assert not asked
    two.predict(part(seed=2))
    assert len(asked) == 1
