"""The one training that the tests of whole runs share, see `tests/training/conftest.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TinyRun:
    """A training of three steps at 64 px that was stopped after the second and went on.

    Args:
        folder: the finished model; `my-part.run` beside it holds checkpoints and log. Tests that change one copy it.
        options: of `finetune`, to give the same call again.
        stopped: what the first call ended with.
        steps: that each of the two calls reported.
        said: messages of the second call.
    """

    folder: Path
    options: dict[str, Any]
    stopped: str
    steps: tuple[list[int], list[int]]
    said: list[str]

    @property
    def work(self) -> Path:
        return self.folder.with_name("my-part.run")
