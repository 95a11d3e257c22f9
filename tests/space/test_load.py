"""Many visitors at once, each with photographs of their own; `make load` takes 200 requests of 40, and memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_clients import CLIENTS, MADE_TEST, REQUESTS

from benchmarks.page_client import Answer, Expected, users_at_once
from benchmarks.page_process import Page
from benchmarks.space import Server, write_photographs
from stlm_hub.predict.prediction import Prediction
from stlm_hub.stlm import STLM

MODEL = "sample-brick"
MAX_GROWTH = 100  # MB
SIZES = [(96, 64), (512, 512), (640, 1024), (1600, 1200), (300, 2400), (3000, 2000)]

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def model() -> STLM:
    return STLM.from_pretrained(MODEL)


def judged(model: STLM, paths: list[Path]) -> dict[Expected, Prediction]:
    """What the library says of photographs, which differ in their scores."""
    found = {}
    for path in paths:
        prediction = model.predict(path)
        found[Expected(path, prediction.is_anomalous, prediction.score)] = prediction
    scores = sorted(expected.score for expected in found)
    assert min(np.diff(scores)) > 2e-5
    return found


def assert_own(answers: list[Answer], predictions: dict[Expected, Prediction]) -> None:
    """Each answer is about the photograph that was sent: its name, its score, its mask."""
    assert sorted({answer.error for answer in answers}) == [""]
    for answer in answers:
        assert answer.is_right, answer
        assert answer.facts is not None and abs(answer.facts["score"] - answer.expected.score) < 1e-5
        mask = np.asarray(Image.open(io.BytesIO(answer.mask))) > 0
        assert np.mean(mask != predictions[answer.expected].mask) < 0.001, answer


def test_each_of_many_clients_gets_the_answer_to_their_own_photograph(page: Page, model: STLM, tmp_path: Path) -> None:
    count = min(CLIENTS, 40) // 2
    predictions = judged(model, write_photographs(tmp_path / "sent", 384, count, count))
    answers = users_at_once(page.url, MODEL, list(predictions), CLIENTS, REQUESTS)
    assert_own(answers, predictions)
    assert not [path for path in (page.log.parent / "cache").iterdir() if path.is_file()]  # each lies in a folder
    marked = [prediction.mask.mean() for prediction in predictions.values()]
    assert max(marked) > min(marked)  # masks tell photographs apart
    waited = np.array([answer.milliseconds for answer in answers]) / 1000
    print(
        f"{len(answers)} requests from {CLIENTS} clients, {len(predictions)} photographs: all right; median "
        f"{np.median(waited):.1f} s, longest {waited.max():.1f} s."
    )


@pytest.mark.skipif(MADE_TEST, reason="make load looks at the memory, too")
def test_memory_stays_flat(page: Page, model: STLM, tmp_path: Path) -> None:
    [whole] = write_photographs(tmp_path / "made", 1024, 1, 0)
    paths = []
    for number, size in enumerate(SIZES):
        paths.append(tmp_path / f"part_{number}{('.png', '.jpg', '.webp')[number % 3]}")
        Image.open(whole).rotate(7 * number).resize(size).save(paths[-1])
    predictions = judged(model, paths)
    server, requests = Server(page), REQUESTS * 5 // 2
    # The second hundred still added 180 MB when it was measured.
    assert_own(users_at_once(page.url, MODEL, list(predictions), 8, REQUESTS), predictions)
    server.settle()
    before = server.megabytes()
    samples: list[float] = []
    answers = users_at_once(
        *(page.url, MODEL, list(predictions), 8, requests),
        lambda number: samples.append(server.megabytes()) if number % 50 == 0 else None,
    )
    assert_own(answers, predictions)
    server.settle()
    after = server.megabytes()
    seen = ", ".join(f"{value:.0f}" for value in samples)
    print(f"{requests} requests of {len(SIZES)} sizes: {before:.0f} MB, each 50 requests {seen}, {after:.0f} MB.")
    assert after - before < MAX_GROWTH
