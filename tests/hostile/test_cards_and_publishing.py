"""What strangers write into results.json, as a card that people read and as a folder that is published."""

from __future__ import annotations

import dataclasses
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from card_model import CONFIG, JUDGING, REPO_ID, RESULTS
from hostile.mutations import refused, sentence
from markdown_it import MarkdownIt

from stlm_hub.errors import STLMError
from stlm_hub.model_folder import results as facts
from stlm_hub.model_folder.card.card import render_card
from stlm_hub.model_folder.publish import check_folder, publish
from stlm_hub.model_folder.results import FileFacts, Results
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")

ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](javascript:alert(1))",
    "</td></table><iframe src=//evil></iframe>",
    "```\n<script>alert(1)</script>\n```",
    "\n\n<svg onload=alert(1)>\n\n",
    "<javascript:alert(1)>",
    "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
    "| <b onmouseover=alert(1)> |",
    "&lt;script&gt;",
)


class Tags(HTMLParser):
    """Names of elements, and attributes, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs


def poisoned(value: object, attack: str) -> object:
    """The same fields with an attack in each text; texts that may only be one of a few stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: poisoned(getattr(value, field.name), attack) for field in dataclasses.fields(value)}
        try:
            return dataclasses.replace(value, **changes)
        except (STLMError, ValueError):
            return value
    if isinstance(value, str):
        return attack
    if isinstance(value, tuple):
        return tuple(poisoned(inner, attack) for inner in value)
    if isinstance(value, dict):
        return {key: poisoned(inner, attack) for key, inner in value.items()}
    return value


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: ascii(attack)[:25])
def test_a_card_shows_what_strangers_wrote_and_runs_none_of_it(attack: str, tmp_path: Path) -> None:
    results = poisoned(RESULTS, attack)
    assert isinstance(results, Results) and results.dataset.name == attack
    config = CONFIG.replace(category=attack[:200], dataset=attack[:200])
    text = render_card(results, config, JUDGING, repo_id=attack, images=(f"{attack}.png", "scores.png"))
    body = text.split("\n---\n", 1)[1]
    tags = Tags(MarkdownIt("commonmark", {"html": True}).enable("table").render(body))
    assert not tags.names & {"script", "iframe", "svg", "b", "object", "style", "form"}
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    links = [value or "" for name, value in tags.attributes if name in ("href", "src")]
    assert not [link for link in links if link.lower().lstrip().startswith(("javascript", "data", "//", "x"))]
    assert not Path("ran").exists()


def test_junk_results_break_no_publishing(saved_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    (folder / "README.md").write_text("---\nlibrary_name: stlm_hub\n---\n")
    assert set(check_folder(folder)) >= {"README.md", "config.json"}
    other = dataclasses.replace(RESULTS, files={"model.safetensors": FileFacts("00" * 32, 1)})
    facts.save(other, tmp_path / "other.json")
    for junk in (
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"{}x",
        b'{"maps": NaN}',
        (tmp_path / "other.json").read_bytes(),
    ):
        (folder / "results.json").write_bytes(junk)
        before = (folder / "README.md").read_bytes()
        with pytest.raises(STLMError) as error:
            publish(folder, REPO_ID, token="x", endpoint="http://127.0.0.1:9")
        assert "results.json" in sentence(error.value)
        assert (folder / "README.md").read_bytes() == before
    assert STLM.from_pretrained(folder).name == "model"  # which needs none of it


def test_folders_in_folders_and_strange_names_are_not_published(saved_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    (folder / "README.md").write_text("---\nlibrary_name: stlm_hub\n---\n")
    for name in (
        "..png/x.png",
        "a\nb.txt",
        "config.json.pkl",
        ".git/config",
        ".env",
        "\udcff.txt",
        "x" * 240 + ".html",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        if not name.endswith(".png"):
            assert refused(lambda: check_folder(folder)), name
        path.unlink()
        if path.parent != folder:
            path.parent.rmdir()


def test_a_front_matter_of_odd_types_is_a_sentence(saved_toy: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_toy, tmp_path / "model")
    for front in (
        "[]",
        "x",
        "a: !!python/object/apply:os.system ['touch ran']",
        "a: &a [*a]",
        "\0",
        "- 1",
        "model-index: 5",
    ):
        (folder / "README.md").write_text(f"---\n{front}\n---\n")
        refused(lambda: check_folder(folder))
    (folder / "README.md").write_bytes(b"---\n\xff\n---\n")
    assert refused(lambda: check_folder(folder))
    assert not Path("ran").exists()
    assert json.loads((folder / "config.json").read_text())["category"] == "bottle"
