"""The model card on the page: its own plots, nothing that is fetched from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from stlm_page import about_tab
from stlm_page.models import LoadedModel

PLOT = b"\x89PNG plot"


@pytest.fixture
def card_of(
    make_loaded: Callable[..., LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None], str]:
    """The page's text for a model with this README.md and a scores.png."""

    def card(text: str | None) -> str:
        if text is not None:
            (tmp_path / "README.md").write_text(text, encoding="utf-8")
        (tmp_path / "scores.png").write_bytes(PLOT)
        model = make_loaded()
        monkeypatch.setattr(about_tab, "MODELS", SimpleNamespace(get=lambda name: model))
        return about_tab.card("some-part")

    return card


def test_front_matter_is_left_out_and_headings_move_down(card_of: Callable[[str | None], str]) -> None:
    text = card_of(
        "\ufeff---\nlicense: mit\nmodel-index:\n- name: x\n---\n\n# STLM\n\n## Use\n\n---\n\nrest\n---\nend\n"
    )
    assert text == "\n## STLM\n\n## Use\n\n---\n\nrest\n---\nend\n"


def test_text_without_front_matter_stays(card_of: Callable[[str | None], str]) -> None:
    assert card_of("Text.\n\n---\n\nMore.\n\n---\n") == "Text.\n\n---\n\nMore.\n\n---\n"


def test_plots_of_the_model_are_put_inside(card_of: Callable[[str | None], str]) -> None:
    data = base64.b64encode(PLOT).decode()
    assert card_of("Before ![Anomaly scores](scores.png) after") == (
        f"Before ![Anomaly scores](data:image/png;base64,{data}) after"
    )


@pytest.mark.parametrize(
    "target",
    [
        "https://example.com/who.png",
        "//example.com/who.png",
        "missing.png",
        "../README.png",
        "/etc/secret.png",
        "folder/scores.png",
        "scores.svg",
        "config.json",
        "data:image/svg+xml,x",
        "file:///etc/passwd",
    ],
)
def test_other_pictures_are_left_out(card_of: Callable[[str | None], str], target: str) -> None:
    text = card_of(f"before ![words]({target}) after")
    assert text.split() == ["before", "after"]


@pytest.mark.parametrize(
    "text",
    [
        '![a](https://example.com/x.png "title")',
        "![a]( https://example.com/x.png )",
        "![a](<https://example.com/x y.png>)",
        "![a][ref]\n\n[ref]: https://example.com/x.png",
        "![ref]\n\n[ref]: https://example.com/x.png",
        "![a ![b](scores.png) c](https://example.com/x.png)",
        "![a\\](scores.png) b](https://example.com/x.png)",
        "![a`](scores.png)`](https://example.com/x.png)",
        "!![](q)[a](https://example.com/x.png)",
        "[![badge](https://example.com/x.png)](https://example.com)",
        '<img src="https://example.com/x.png">',
        '<IMG src="https://example.com/x.png">',
        '<svg><image href="https://example.com/x.png"/></svg>',
        '<p style="background: url(https://example.com/x.png)">',
        '<![x](q)img src="https://example.com/x.png">',
    ],
)
def test_no_other_way_to_write_a_picture_fetches_one(card_of: Callable[[str | None], str], text: str) -> None:
    shown = card_of(f"Text. {text}")
    data = f"](data:image/png;base64,{base64.b64encode(PLOT).decode()})"
    without_own = shown.replace(data, "](own)")
    for piece in without_own.split("![")[1:]:
        alt, closed, rest = piece.partition("]")
        assert closed and rest.startswith("(own)") and not set(alt) & set("[]\\`"), shown
    assert not re.search(r"<(?!https://)[a-zA-Z!/?]", shown)


def test_links_stay_links(card_of: Callable[[str | None], str]) -> None:
    text = "[paper](https://arxiv.org/abs/2402.19145) and <https://example.com> and 1 < 2"
    assert card_of(text) == text


def test_a_plot_that_is_too_large_is_left_out(
    card_of: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(about_tab, "_MAX_PICTURE_BYTES", len(PLOT) - 1)
    assert "data:" not in card_of("![Scores](scores.png)")


def test_a_model_without_a_card_says_so(card_of: Callable[[str | None], str]) -> None:
    assert card_of(None) == "some-part has no model card."
    assert card_of("") == "some-part has no model card."
