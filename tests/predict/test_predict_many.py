"""Any number of photographs, one after the other: order, what cannot be used, batches, decoding ahead, ending early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import grey, judging_by, texture, write_photographs

from stlm_hub.errors import ConfigError, ImageError
from stlm_hub.predict import stream
from stlm_hub.predict.prediction import Prediction, Unusable
from stlm_hub.predict.stream import DECODED_AHEAD, predict_many
from stlm_hub.stlm import STLM


class Judge:
    """Answers with the grey value of each photograph, and keeps the sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: list[np.ndarray]) -> list[int]:
        self.batches.append(len(images))
        return [int(image[0, 0, 0]) for image in images]


def source(i: int, read: list[int]) -> Callable[[], np.ndarray]:
    """A photograph of the grey value i, which notes when it is decoded."""

    def decode() -> np.ndarray:
        read.append(i)
        return grey(i)

    return decode


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def settle(condition: Callable[[], bool]) -> bool:
    """Waits up to five seconds for what another thread does."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_one_answer_for_each_source_in_order(batch: int) -> None:
    judge, values = Judge(), [200, 10, 90, 250, 40, 5, 60]
    sources = [grey(value) if value % 4 else source(value, []) for value in values]
    assert list(predict_many(judge, sources, batch=batch)) == values
    assert sum(judge.batches) == 7 and max(judge.batches) == min(batch, 7)
    assert judge.batches == sorted(judge.batches, reverse=True)  # the last one may be smaller, no other


def test_nothing_in_nothing_out() -> None:
    judge = Judge()
    assert list(predict_many(judge, [])) == [] and judge.batches == []


def test_what_is_no_photograph_is_answered_in_its_place_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def gone() -> np.ndarray:
        raise ImageError("The camera is gone.")

    sources: list[Any] = [tmp_path / "broken.png", grey(1), b"", grey(2), gone, grey(3), tmp_path / "none.png", 5]
    for batch in (1, 2, 8):
        judge = Judge()
        answers = list(predict_many(judge, sources, batch=batch))
        unusable = [answer for answer in answers if isinstance(answer, Unusable)]
        assert [a if isinstance(a, int) else None for a in answers] == [None, 1, None, 2, None, 3, None, None]
        assert [a.source for a in unusable] == [tmp_path / "broken.png", b"", gone, tmp_path / "none.png", 5]
        assert all(isinstance(a.error, ImageError) for a in unusable)
        assert "broken.png" in str(unusable[0].error) and "The camera is gone." in str(unusable[2].error)
        assert sum(judge.batches) == 3 and 0 not in judge.batches


def test_the_judge_is_not_asked_where_no_source_is_a_photograph() -> None:
    judge = Judge()
    answers = list(predict_many(judge, [b"", b"x"], batch=4))
    assert [type(answer) for answer in answers] == [Unusable, Unusable] and judge.batches == []


def test_large_photographs_make_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_PHOTOGRAPH_PIXELS", 2 * 64 * 64)
    judge = Judge()
    sources = [grey(1), grey(2), grey(3), grey(4, 200, 200), grey(5), grey(6, 65, 64), grey(7)]
    assert list(predict_many(judge, sources, batch=4)) == [1, 2, 3, 4, 5, 6, 7]
    assert judge.batches == [2, 1, 1, 1, 1, 1]  # one that is too large alone is a batch of its own


def test_a_few_photographs_are_decoded_ahead_and_no_more() -> None:
    read: list[int] = []

    def sources() -> Iterator[Callable[[], np.ndarray]]:
        for i in range(20):
            yield source(i, read)

    answers = predict_many(Judge(), sources())
    assert not read  # nothing happens before somebody asks
    for i in range(5):
        assert next(answers) == i
        assert settle(lambda i=i: len(read) == i + 1 + DECODED_AHEAD)  # type: ignore[misc]
        time.sleep(0.01)
        assert len(read) == i + 1 + DECODED_AHEAD
    assert list(answers) == list(range(5, 20)) and read == list(range(20))


def test_decoding_goes_on_while_the_network_works() -> None:
    decoded: list[int] = []
    seen: list[bool] = []

    def judge(images: list[np.ndarray]) -> list[int]:
        i = int(images[0][0, 0, 0])
        seen.append(settle(lambda: i + 1 in decoded) if i < 5 else True)
        return [i]

    assert list(predict_many(judge, (source(i, decoded) for i in range(6)))) == list(range(6))
    assert seen == [True] * 6


def test_a_full_batch_waits_for_nothing() -> None:
    """A camera's verdict must not wait for the photographs that come after it; no more are asked for than are held."""
    asked: list[int] = []

    def camera() -> Iterator[np.ndarray]:
        for i in range(100):
            asked.append(i)
            yield grey(i)

    answers = predict_many(Judge(), camera(), batch=1)
    assert next(answers) == 0
    assert len(asked) == 1 + DECODED_AHEAD
    answers.close()  # type: ignore[attr-defined]


def test_answers_for_unusable_files_are_not_held_back() -> None:
    """A folder of broken files: each reason comes as it is found, and nothing piles up."""
    asked: list[int] = []

    def folder() -> Iterator[bytes]:
        for i in range(1000):
            asked.append(i)
            yield b""

    answers = predict_many(Judge(), folder(), batch=4)
    assert isinstance(next(answers), Unusable) and len(asked) <= 4 + DECODED_AHEAD
    answers.close()  # type: ignore[attr-defined]


def test_ending_early_ends_the_decoding() -> None:
    decoded: list[int] = []
    answers = predict_many(Judge(), (source(i, decoded) for i in range(50)))
    assert next(answers) == 0 and decoding_threads()
    answers.close()  # type: ignore[attr-defined]
    assert settle(lambda: not decoding_threads())
    n = len(decoded)
    assert n <= 1 + DECODED_AHEAD
    time.sleep(0.02)
    assert len(decoded) == n


def test_whatever_else_goes_wrong_is_passed_on_and_ends_the_decoding() -> None:
    def fail() -> np.ndarray:
        raise MemoryError("no room")

    def sources() -> Iterator[np.ndarray]:
        yield grey(1)
        raise OSError("the disk is gone")

    def judge(images: list[np.ndarray]) -> list[int]:
        raise RuntimeError("out of memory")

    for make, error in (
        (lambda: predict_many(Judge(), [grey(1), fail]), MemoryError),
        (lambda: predict_many(Judge(), sources()), OSError),
        (lambda: predict_many(judge, [grey(1), grey(2)]), RuntimeError),
    ):
        with pytest.raises(error):
            list(make())
        assert settle(lambda: not decoding_threads())


# ---------------------------------------------------------------- of a model


def test_a_model_judges_many_as_it_judges_one(tiny_model: STLM, tmp_path: Path) -> None:
    paths = write_photographs(tmp_path / "parts", 5)
    (tmp_path / "broken.png").write_bytes(b"")
    answers = list(tiny_model.predict_many([*paths[:2], tmp_path / "broken.png", *paths[2:]], threshold=0.25))
    assert isinstance(answers.pop(2), Unusable)
    for answer, alone in zip(answers, tiny_model.predict(paths, threshold=0.25), strict=True):
        assert isinstance(answer, Prediction) and answer.threshold == 0.25
        assert answer.score == pytest.approx(alone.score, abs=1e-5)
        np.testing.assert_allclose(answer.anomaly_map, alone.anomaly_map, rtol=0, atol=1e-5)
        assert np.array_equal(answer.image, alone.image)


def test_the_calibrated_threshold_is_that_of_the_moment(tiny_memory_model: STLM) -> None:
    (answer,) = tiny_memory_model.predict_many([texture(64, 64)])
    assert isinstance(answer, Prediction) and answer.threshold == 0.625
    (answer,) = judging_by(tiny_memory_model, calibration=None).predict_many([texture(64, 64)])
    assert isinstance(answer, Prediction) and answer.threshold == 0.5


def test_an_impossible_threshold_is_refused_before_anything_is_read(tiny_model: STLM) -> None:
    def sources() -> Iterator[np.ndarray]:
        pytest.fail("it was read")
        yield grey(1)

    with pytest.raises(ConfigError, match="threshold must be a number from 0 to 1"):
        tiny_model.predict_many(sources(), threshold=1.5)
