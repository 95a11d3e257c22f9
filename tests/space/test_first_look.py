"""First look: which detector is asked, what is said of its verdict, and what cannot be used."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from stlm_hub.predict.images import load_image
from stlm_hub.predict.prediction import Prediction
from stlm_page import first_look_tab
from stlm_page.build import build_page
from stlm_page.first_look_tab import CLIP_WEIGHTS, FEW, WORDS, judge_without_model

pytestmark = pytest.mark.usefixtures("page_cache")


def sent(*paths: Path) -> list[dict[str, Any]]:
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


class Detector:
    """Finds the upper left quarter of any photograph, and keeps what it was asked."""

    limit_is = "The limit is <chosen>."

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def predict(self, image: np.ndarray, **options: Any) -> Prediction:
        self.asked.append(options)
        height, width = image.shape[:2]
        anomaly_map = np.full((height, width), 0.1, np.float32)
        anomaly_map[: height // 2, : width // 2] = 0.8
        return Prediction(image, anomaly_map, 0.8, 0.5)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """Stands in for CLIP and for references; no weights are loaded."""
    found = Detector()
    monkeypatch.setattr(first_look_tab, "clip", lambda weights: found)
    monkeypatch.setattr(first_look_tab, "references", lambda good: found)
    return found


def test_a_few_good_photographs_judge_another(photographs: Path, detector: Detector) -> None:
    (photo,) = sent(photographs / "crack.png")
    good = sent(photographs / "good_1.png", photographs / "good_2.png")
    verdict, compare, outline = judge_without_model(photo, FEW, good, "")
    assert "Reject" in verdict and "25.0 % of it is marked" in verdict and "&lt;chosen&gt;" in verdict
    assert detector.asked == [{}]
    height, width = load_image(photographs / "crack.png").shape[:2]
    assert f"{width} x {height} px" in verdict
    assert all(Path(path).is_file() for path in (*compare["value"], outline["value"]))


@pytest.mark.parametrize(("typed", "part"), [(" bottle ", "bottle"), ("", None)])
def test_the_name_of_the_part_is_passed_on(
    photographs: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch, typed: str, part: str | None
) -> None:
    monkeypatch.setenv(CLIP_WEIGHTS, "somewhere.safetensors")
    (photo,) = sent(photographs / "crack.png")
    assert "words for good and for damaged" in judge_without_model(photo, WORDS, None, typed)[0]
    assert detector.asked == [{"part": part}]


def test_without_weights_of_clip_the_page_says_how_to_get_them(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CLIP_WEIGHTS, raising=False)
    monkeypatch.setattr(first_look_tab, "clip", lambda weights: pytest.fail("a visitor has it downloaded"))
    (photo,) = sent(photographs / "crack.png")
    with pytest.raises(gr.Error, match=f"Whoever runs it sets `{CLIP_WEIGHTS}="):
        judge_without_model(photo, WORDS, None, "bottle")
    shown = [str(getattr(block, "value", "")) for block in build_page([]).blocks.values()]
    assert first_look_tab.NO_CLIP in shown
    monkeypatch.setenv(CLIP_WEIGHTS, "somewhere.safetensors")
    shown = [str(getattr(block, "value", "")) for block in build_page([]).blocks.values()]
    assert first_look_tab.UNTRIED in shown and first_look_tab.NO_CLIP not in shown


@pytest.mark.parametrize(
    ("by", "count", "part", "sentence"),
    [
        ("anything", 1, "", "Choose what to compare with"),
        (FEW, 0, "", "no photographs yet"),
        (FEW, 6, "", "6 reference photographs; give one to 5"),
        (WORDS, 0, "b" * 81, "at most 80 characters"),
    ],
)
def test_what_cannot_be_used_is_said(
    photographs: Path, tmp_path: Path, by: str, count: int, part: str, sentence: str
) -> None:
    good = []
    for number in range(count):
        Image.effect_noise((32, 32), number + 5).save(tmp_path / f"{number}.png")
        good += sent(tmp_path / f"{number}.png")
    (photo,) = sent(photographs / "crack.png")
    with pytest.raises(gr.Error, match=sentence):
        judge_without_model(photo, by, good or None, part)
    with pytest.raises(gr.Error, match=r"Add a photograph to judge first|Choose what"):
        judge_without_model(None, by, good or None, part)


def test_good_photographs_are_shrunk_before_they_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stlm_hub.zero_shot import references

    monkeypatch.setattr(
        references, "References", lambda images, device: SimpleNamespace(sizes=[image.shape for image in images])
    )
    Image.effect_noise((3000, 600), 40).save(tmp_path / "large.png")
    Image.effect_noise((64, 48), 40).save(tmp_path / "small.png")
    found = first_look_tab.uploads(sent(tmp_path / "large.png", tmp_path / "small.png"))
    first_look_tab.references.cache_clear()
    assert first_look_tab.references(tuple(found)).sizes == [(205, 1024, 3), (48, 64, 3)]  # type: ignore[attr-defined]
    assert first_look_tab.references(tuple(found)) is first_look_tab.references(tuple(found))
    first_look_tab.references.cache_clear()
