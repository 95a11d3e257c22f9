"""JSON files of a model with one odd value each, and what may become of them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stlm_hub.errors import STLMError
from stlm_hub.predict.prediction import Prediction

DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "x" * 5000, "\ud800", "\0\n\r<script>alert(1)</script>", "../../etc/passwd", "1", "{{ 7 * 7 }}"),
    *([], [[]], [None], [0.5, 0.5], {}, {"": {}}, {"__class__": "os.system"}, DEEP),
)


def paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value in parsed JSON, the outermost first."""
    yield above
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from paths(value, (*above, key))


def mutated(tree: Any) -> Iterator[bytes]:
    """JSON with each value in turn replaced by each odd one, left out, or with an unknown neighbour."""
    for path in paths(tree):
        for value in ODD:
            yield _dumped(_with(tree, path, value))
        if path:
            yield _dumped(_with(tree, path, None, gone=True))
        yield _dumped(_with(tree, (*path, "unknown"), 1))


def truncated(data: bytes, step: int = 64) -> Iterator[bytes]:
    """The beginnings of a file."""
    yield from (data[:end] for end in range(0, len(data), step))


def sentence(error: STLMError) -> str:
    """The message, which must be one short line that says what to do."""
    text = str(error)
    assert text.isprintable() and "Traceback" not in text, text
    assert 10 < len(text) < 900, text
    return text


def refused(action: Callable[[], Any]) -> bool:
    """Whether it ends in a sentence; anything that is no `STLMError` passes on and fails the test."""
    try:
        action()
    except STLMError as error:
        sentence(error)
        return True
    return False


def judges(model: Any) -> None:
    """A model that loads must judge in whole, finite numbers, or refuse to."""
    prediction: Prediction = model.predict(np.full((64, 64, 3), 90, np.uint8))
    json.dumps(prediction.to_dict(), allow_nan=False)
    assert 0 <= prediction.score <= 1 and np.isfinite(prediction.anomaly_map).all()


def _with(tree: Any, path: tuple[Any, ...], value: Any, *, gone: bool = False) -> Any:
    if not path:
        return value
    made = copy.deepcopy(tree)
    place = made
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    elif isinstance(place, dict):
        place[path[-1]] = value
    elif isinstance(place, list) and path[-1] == "unknown":
        place.append(value)
    elif isinstance(place, list):
        place[path[-1]] = value
    return made


def _dumped(tree: Any) -> bytes:
    return json.dumps(tree).encode()
