"""A stranger's model card as HTML that is safe to show: his words and his plots, nothing that runs or is fetched.

The page draws cards itself and leaves nothing to the browser's Markdown: no HTML of the card, no diagrams, no formulas,
no pictures from elsewhere, which would tell a stranger who is looking. Time and size are bounded by the card's length.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_CHARACTERS = 40_000  # the longest card of the zoo has 14,000; as many of the worst kind take two seconds
MAX_PICTURES = 20
MAX_PICTURES_BYTES = 4 * 2**20  # of all pictures together, each time one is shown
MAX_ADDRESSES = 100_000  # characters of all links together: short references can repeat a long one

CUT = f"<p><em>The card goes on; only its first {MAX_CHARACTERS:,} characters are shown here.</em></p>"

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---\n.*?\n---\n", re.DOTALL)
_PLOT = re.compile(r"[\w-]{1,100}\.png")
_LINK = re.compile(r"(https?://|mailto:)\S+", re.IGNORECASE)
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])


def card_html(text: str, picture: Callable[[str], bytes | None]) -> str:
    """HTML of a model card.

    Args:
        text: Markdown, with the Hub's front matter or without.
        picture: returns the PNG of a name such as "scores.png", or None where there is none to show.
    """
    text = _FRONT_MATTER.sub("", text, count=1)
    cut = text[MAX_CHARACTERS:] and CUT
    tokens = _MARKDOWN.parse(text[:MAX_CHARACTERS])
    _Cleaning(picture).clean(tokens)
    return _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}) + cut


class _Cleaning:
    """One card's way through: what it has drawn and linked so far counts against the limits."""

    def __init__(self, picture: Callable[[str], bytes | None]) -> None:
        self.picture = picture
        self.pictures = self.bytes = self.addresses = 0

    def clean(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "image":
                self._draw(token)
            elif token.type in ("heading_open", "heading_close") and token.tag == "h1":
                token.tag = "h2"  # the page has a heading of its own
            elif token.type == "link_open":
                self._link(token)
            token.info = ""  # of a fence: its language becomes a class, for which the page may have a use
            self.clean(token.children or () if token.type != "image" else ())

    def _draw(self, token: Token) -> None:
        png, name = None, str(token.attrs["src"])
        if _PLOT.fullmatch(name) and self.pictures < MAX_PICTURES:
            self.pictures += 1
            png = self.picture(name)
        if png is None or self.bytes + len(png) > MAX_PICTURES_BYTES:
            token.type, token.content, token.children = "text", "", None
            return
        self.bytes += len(png)
        token.attrs = {"src": f"data:image/png;base64,{base64.b64encode(png).decode()}", "alt": ""}

    def _link(self, token: Token) -> None:
        address = str(token.attrs["href"])
        self.addresses += len(address)
        if _LINK.fullmatch(address) and self.addresses <= MAX_ADDRESSES:
            token.attrs = {"href": address, "target": "_blank", "rel": "noopener noreferrer nofollow"}
        else:
            token.attrs = {}  # an <a> that leads nowhere
