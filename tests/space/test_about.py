"""The model card on the page: its own plots, nothing that is fetched from elsewhere, within bounds."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from stlm_page import about_tab, card_html
from stlm_page.models import LoadedModel, Models


def png(width: int = 30, height: int = 20) -> bytes:
    data = io.BytesIO()
    Image.new("1", (width, height)).save(data, "PNG")
    return data.getvalue()


PLOT = png()
DATA = f"data:image/png;base64,{base64.b64encode(PLOT).decode()}"


class Elements(HTMLParser):
    """Every element of a page with its attributes, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def card_of(
    make_loaded: Callable[..., LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None], str]:
    """The page's HTML for a model with this README.md and a scores.png."""

    def card(text: str | None) -> str:
        if text is not None:
            (tmp_path / "README.md").write_text(text, encoding="utf-8")
        (tmp_path / "scores.png").write_bytes(PLOT)
        model = make_loaded()
        monkeypatch.setattr(about_tab, "MODELS", SimpleNamespace(get=lambda name: model, read=Models().read))
        return about_tab.card("some-part")

    return card


def test_front_matter_is_left_out_and_headings_move_down(card_of: Callable[[str | None], str]) -> None:
    text = card_of(
        "\ufeff---\nlicense: mit\nmodel-index:\n- name: x\n---\n\n# STLM\n\n## Use\n\n---\n\nrest\n\n---\nend\n"
    )
    assert text == "<h2>STLM</h2>\n<h2>Use</h2>\n<hr />\n<p>rest</p>\n<hr />\n<p>end</p>\n"


def test_text_without_front_matter_stays(card_of: Callable[[str | None], str]) -> None:
    assert card_of("Text.\n\n---\n\nMore.\n\n---\n") == "<p>Text.</p>\n<hr />\n<p>More.</p>\n<hr />\n"


def test_a_comment_in_code_is_no_heading(card_of: Callable[[str | None], str]) -> None:
    assert card_of("```bash\n# twice\nls\n```") == "<pre><code># twice\nls\n</code></pre>\n"


def test_tables_are_tables(card_of: Callable[[str | None], str]) -> None:
    shown = card_of("|  | **This** |\n|---|---:|\n| AUROC | 99 % |\n")
    assert re.search(r"<td[^>]*>AUROC</td>", shown) and "<strong>This</strong>" in shown and "right" in shown


def test_plots_of_the_model_are_put_inside(card_of: Callable[[str | None], str]) -> None:
    assert card_of('Before ![Anomaly *scores*](scores.png "title") after') == (
        f'<p>Before <img src="{DATA}" alt="Anomaly scores" /> after</p>\n'
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
        "data:image/png;base64,x",
        "file:///etc/passwd",
    ],
)
def test_other_pictures_are_left_out(card_of: Callable[[str | None], str], target: str) -> None:
    shown = card_of(f"before ![words]({target}) after")
    assert "<img" not in shown and "before" in shown and "after" in shown


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
        "<style>@import url(https://example.com/x.css)</style>",
        '<link rel="stylesheet" href="https://example.com/x.css">',
        "<iframe src=https://example.com></iframe>",
        "<script>fetch('https://example.com')</script>",
        "```mermaid\ngraph TD; A[\"<img src='https://example.com/x.png'>\"]\n```",
        "$$\\includegraphics{https://example.com/x.png}$$",
        '```" onload="fetch(1)\nx\n```',
        '[a](https://example.com "x\\" onmouseover=\\"fetch(1)")',
        "[a](javascript:alert(1))",
        "[a](JavaScript&colon;alert(1))",
        "[a](data:text/html,<script>alert(1)</script>)",
        "[a](/gradio_api/cancel)",
        '[a](https://example.com"onmouseover="x)',
    ],
)
def test_a_card_can_only_link(card_of: Callable[[str | None], str], text: str) -> None:
    found = Elements(card_of(f"Text.\n\n{text}\n")).found
    assert {tag for tag, _ in found} <= {"p", "a", "img", "pre", "code", "table", "em"}, found
    for tag, attributes in found:
        if tag == "img":
            assert attributes["src"] == DATA and set(attributes) == {"src", "alt"}
        elif tag == "a":
            assert set(attributes) in ({"href", "target", "rel"}, set()), attributes
            assert (attributes.get("href") or "https://").startswith("https://")
        else:
            assert not attributes


def test_links_stay_links_and_open_elsewhere(card_of: Callable[[str | None], str]) -> None:
    shown = card_of(
        "[paper](https://arxiv.org/abs/2402.19145), <https://example.com>, [r] and 1 < 2\n\n[r]: http://r.org"
    )
    found = [attributes for tag, attributes in Elements(shown).found if tag == "a"]
    assert [a["href"] for a in found] == ["https://arxiv.org/abs/2402.19145", "https://example.com", "http://r.org"]
    assert all(a["target"] == "_blank" and "noopener" in (a["rel"] or "") for a in found) and "1 &lt; 2" in shown


@pytest.mark.parametrize(
    "data", [b"not a picture", b"<svg/>", png(9000, 9000)], ids=["text", "svg", "81 megapixels in a few bytes"]
)
def test_what_is_no_picture_or_too_large_a_one_is_left_out(
    card_of: Callable[[str | None], str], tmp_path: Path, data: bytes
) -> None:
    card_of("")
    (tmp_path / "other.png").write_bytes(data)
    shown = card_of("![Scores](scores.png) ![Other](other.png)")
    assert shown.count("<img") == 1


def test_a_plot_that_is_too_large_is_left_out(
    card_of: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(about_tab, "_MAX_PICTURE_BYTES", len(PLOT) - 1)
    assert "data:" not in card_of("![Scores](scores.png)")


def test_a_model_without_a_card_says_so(card_of: Callable[[str | None], str]) -> None:
    assert card_of(None) == "<p>some-part has no model card.</p>"
    assert card_of("") == "<p>some-part has no model card.</p>"


def test_pictures_are_bounded_in_number_and_bytes() -> None:
    asked: list[str] = []

    def picture(name: str) -> bytes | None:
        asked.append(name)
        return bytes(2**20) if name.startswith("large") else None if name.startswith("missing") else PLOT

    assert card_html.card_html("![a](scores.png)\n" * 5000, picture).count("<img") == card_html.MAX_PICTURES == 20
    assert card_html.card_html("![a](large.png)\n" * 20, picture).count("<img") == 4
    asked.clear()
    card_html.card_html("".join(f"![a](missing{n}.png)\n" for n in range(1000)), picture)
    assert len(asked) <= 20  # each question may go to the Hub


def test_what_a_card_shows_is_bounded_by_what_it_holds() -> None:
    def size(text: str) -> int:
        return len(card_html.card_html(text, lambda name: None))

    assert size("[a]: https://example.com/" + "x" * 20_000 + "\n\n" + "[a] " * 5000) < 10**6
    assert size('[a]: https://example.com "' + "x" * 20_000 + '"\n\n' + "[a] " * 5000) < 10**6
    assert size("|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + "|\n" * 10_000) < 10**6


@pytest.mark.parametrize(
    "piece",
    [
        *("![a](", "[", "![", "[a](", "*a ", "a**b*c ", "_a__b ", "`a``b```", "> ", "- a\n  ", "* ", "|a", "<a"),
        *("<!--", "<?", "[a]: u\n", "[a](<", "[a](b 'c", "[a]((((", "[\\]", "~~a ", "---\n", "```\n", "&a", "!"),
        *("---\nx\n", "\ufeff", "\n" * 3, "a" * 100, "[a]\n\n[a]: b\n"),
    ],
)
def test_no_card_takes_long(piece: str) -> None:
    """700,000 of the first kept one regular expression busy for an hour, and everybody else waiting."""
    started = time.process_time()
    shown = card_html.card_html(piece * (2**22 // len(piece)), lambda name: PLOT)
    assert time.process_time() - started < 20
    assert shown.endswith(card_html.CUT) and len(shown) < 2 * 10**6
    assert "only its first 40,000 characters are shown" in card_html.CUT
