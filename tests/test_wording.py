"""Counts and shares as people read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stlm_hub.wording import number_of, percent

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("n", "nouns", "words"),
    [
        (0, ("photograph",), "0 photographs"),
        (1, ("photograph",), "1 photograph"),
        (2, ("photograph",), "2 photographs"),
        (1, ("patch", "patches"), "1 patch"),
        (4096, ("patch", "patches"), "4096 patches"),
    ],
)
def test_one_is_no_plural(n: int, nouns: tuple[str, ...], words: str) -> None:
    assert number_of(n, *nouns) == words


@pytest.mark.parametrize(
    ("fraction", "words"),
    [
        (0, "0 %"),
        (0.0053, "0.53 %"),
        (0.01, "1 %"),
        (0.0996, "10 %"),
        (0.36, "36 %"),
        (0.997, "100 %"),
        (1, "100 %"),
    ],
)
def test_a_share_has_two_digits_and_a_space(fraction: float, words: str) -> None:
    assert percent(fraction) == words


def test_no_percent_sign_stands_without_a_space() -> None:
    """Neither "36%" nor a format that writes it."""
    sources = [path for place in ("stlm_hub", "space", "train") for path in (ROOT / place).rglob("*.py")]
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "model_cards").rglob("*.md")]
    wrong = re.compile(r"""\{[^{}"']*:[^{}"']*%\}|[0-9]%(?![a-zA-Z0-9(])|[^{%]\}%""")
    for path in (*sources, *documents):
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if wrong.search(line)]
        assert found == [], f"{path.relative_to(ROOT)}: {found}"
