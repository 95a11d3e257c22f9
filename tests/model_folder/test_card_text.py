"""Licences and citations of a model card, and texts of strangers in it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import numpy as np
import pytest
from card_model import (
    CALIBRATION,
    CONFIG,
    JUDGING,
    PAPER,
    REPO_ID,
    RESULTS,
    TRAINING,
    changed,
    front_matter,
    rendered,
    section,
    table,
)
from huggingface_hub import ModelCard
from PIL import Image

import stlm_hub
from stlm_hub.model_folder.card.text import Ready, code_block, markdown, shown
from stlm_hub.model_folder.card.text import table as markdown_table
from stlm_hub.model_folder.provenance import CalibrationFacts, Circumstances, Command, Split, StartingPoint
from stlm_hub.model_folder.results import FileFacts
from stlm_hub.predict.prediction import Prediction

HOSTILE = 'a|b\n---\n# <b>"c": [x](y) ![z](http://z) `d` *e* &lt; {{ 7 * 7 }}'


@pytest.mark.parametrize(
    ("weights", "photographs", "expected"),
    [
        ("apache-2.0", "cc0-1.0", ("apache-2.0", None)),
        ("", "cc-by-4.0", ("cc-by-4.0", None)),
        ("other", "other", ("other", None)),
        ("", "", ("other", None)),
        ("Our terms, v2", "", ("other", "our-terms-v2")),
    ],
)
def test_the_licence_is_that_of_the_weights(weights: str, photographs: str, expected: tuple[str, str]) -> None:
    text = rendered(changed(provenance={"weights_license": weights}, dataset={"license": photographs}))
    data = front_matter(text)
    assert (data.license, data.license_name) == expected
    assert "commercial use" not in text
    assert ("No licence was chosen" in text) == (expected == ("other", None))


def test_a_licence_against_commercial_use_is_said_at_the_top() -> None:
    said = "**Not for commercial use**: the weights and the photographs are under [CC BY-NC-SA 4.0]("
    assert said in rendered().split("\n## ")[0]
    text = rendered(changed(provenance={"weights_license": "mit"})).split("\n## ")[0]
    assert "**Not for commercial use**: the photographs are under [CC BY-NC-SA 4.0](" in text


@pytest.mark.parametrize(
    ("dataset", "key"), [("MVTec AD", "bergmann2019mvtec"), ("VisA", "zou2022visa"), ("DAGM 2007", "wieler2007dagm")]
)
def test_stlm_and_the_data_set_that_was_trained_on_are_cited_and_no_other(dataset: str, key: str) -> None:
    text = rendered(changed(dataset={"name": dataset}))
    block = re.search(r"^```bibtex\n(@.*?)\n```$", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    assert re.findall(r"@\w+\{(\w+),", block[1]) == ["li2025stlm", key]
    assert block[1].count("{") == block[1].count("}")
    assert re.findall(r"@\w+\{(\w+),", rendered(changed(dataset={"name": "own"}))) == ["li2025stlm"]


def hostile(value: Any) -> Any:
    """A value with every text that may hold anything replaced."""
    if isinstance(value, str):
        return HOSTILE
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fixed = ("anomaly_map", "trained_map")
        return dataclasses.replace(
            value, **{name: hostile(part) for name, part in vars(value).items() if name not in fixed}
        )
    if isinstance(value, dict):
        return {name: hostile(part) for name, part in value.items()}
    return type(value)(map(hostile, value)) if isinstance(value, (list, tuple)) else value


def test_texts_of_strangers_cannot_break_the_card() -> None:
    results = changed(
        dataset={"note": "x", "split": Split(False, "x")},
        training=dataclasses.replace(TRAINING, made=Circumstances("x", "x", {"commit": "x"})),
        recalibration=CalibrationFacts(alias="x", calibration=dataclasses.replace(CALIBRATION, method="x", date="x")),
    )
    assert JUDGING.calibration is not None
    judging = JUDGING.replace(calibration=hostile(JUDGING.calibration))
    text = rendered(hostile(results), CONFIG.replace(category=HOSTILE, dataset=HOSTILE), judging)
    assert text.count("a\\|b") > 15  # nearly all of them are shown
    data = front_matter(text)
    assert data.license == "other"
    assert data.eval_results is not None and data.eval_results[0].dataset_config == HOSTILE
    body = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", text.split("\n---\n", 1)[1], flags=re.DOTALL | re.MULTILINE)
    harmless = re.sub(r"\\.", "", body)
    assert "<b" not in harmless and "](y)" not in harmless and "![" not in harmless and "&lt" not in harmless
    assert "49" not in body
    titles = re.findall(r"^#+ .*", body, flags=re.MULTILINE)
    assert len(titles) == 7 and titles[0].startswith("# STLM anomaly detection: a\\|b --- \\# \\<b\\>")
    assert len(table(section(text, "How it was trained"))["Photographs"]) == 1
    assert "---" not in {line.strip() for line in body.splitlines()}


@pytest.mark.parametrize(
    "results",
    [
        changed(paper=dataclasses.replace(PAPER, source=HOSTILE, teacher=HOSTILE)),
        changed(training=dataclasses.replace(TRAINING, starting_weights=StartingPoint(HOSTILE))),
        changed(files={"model.safetensors": FileFacts("5d", 1, HOSTILE)}),
        changed(dataset={"homepage": "https://a.b/)<b>"}),
    ],
)
def test_one_text_of_a_stranger_among_known_ones_is_harmless(results: Any) -> None:
    text = re.sub(r"\\.", "", rendered(results))
    assert "<b>" not in text and "](y)" not in text and len(text.splitlines()) <= len(rendered().splitlines())


def test_a_command_cannot_leave_its_code_block() -> None:
    commands = (Command("```"), Command("<img src=x>"), Command("a\n```\n# b", ("````",)))
    text = rendered(changed(provenance={"commands": commands}))
    assert "\n`````bash\n```\n<img src=x>\na ``` # b '````'\n`````\n" in text


def test_what_the_template_shows_is_escaped_unless_it_is_ours() -> None:
    template = jinja2.Environment(finalize=shown).from_string(  # noqa: S701 - what is tested escapes
        "{{ a }} {{ b }} {{ b ~ a }} {{ 1.5 }} {{ [a] }} {{ none }}"
    )
    assert template.render(a="*", b=Ready("**")) == "\\* ** \\*\\*\\* 1.5 \\['\\*'\\] "
    assert markdown(None) == "" and markdown(" a\n b ") == "a b"
    assert markdown_table([["", "x"], ["a|b", Ready("**1**")]]) == "|  | x |\n|---|---:|\n| a\\|b | **1** |"
    assert code_block("bash", ["a\nb", "c"]) == "```bash\na b\nc\n```"


def test_the_snippet_of_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(.*?)```", rendered(), re.DOTALL)
    assert block is not None and block[1].count(f'"{REPO_ID}"') == 1
    assert len([line for line in block[1].splitlines() if line]) == 5

    def predict(path: str) -> Prediction:
        assert path == "part.png"
        return Prediction(np.zeros((48, 80, 3), np.uint8), np.zeros((48, 80), np.float32), 0.1, 0.5)

    model = SimpleNamespace(predict=predict)
    monkeypatch.setattr(stlm_hub, "STLM", SimpleNamespace(from_pretrained={REPO_ID: model}.get), raising=False)
    monkeypatch.chdir(tmp_path)
    exec(block[1], {})  # noqa: S102 - the template's own snippet
    assert Image.open("panel.png").width > 80


def test_the_front_matter_stays_valid_after_a_round_trip() -> None:
    assert (
        front_matter(str(ModelCard(rendered(hostile(RESULTS))))).to_dict()
        == front_matter(rendered(hostile(RESULTS))).to_dict()
    )
