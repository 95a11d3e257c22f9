"""`make demo` with the sample model of this checkout and without a network."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from stlm_hub.cli import demo as module
from stlm_hub.cli.demo import ALIAS, PART, PER_KIND, demo
from stlm_hub.model_folder import zoo
from stlm_hub.model_folder.folder import read_folder
from stlm_hub.samples.parts import write_samples

KINDS = {"crack", "fibre", "good", "hole", "scratch", "stain"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the demo must not ask a network")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_the_demo_judges_samples_and_draws_panels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the photographs that are judged; they do not depend on the number of the others.
    few = partial(write_samples, n_train=0, n_good=PER_KIND, n_defect_each=PER_KIND)
    monkeypatch.setattr(module, "write_samples", few)
    panels = demo(tmp_path)
    assert {panel.name.split("_")[0] for panel in panels} == KINDS
    assert len(panels) == len(KINDS) * PER_KIND
    for panel in panels:
        with Image.open(panel) as image:
            assert image.width > 600
    said = capsys.readouterr().out
    assert re.search(r"at most [\d.]+ % of good parts are rejected \(95 % sure\)", said)
    right = re.search(r"(\d+) of (\d+) verdicts agree", said)
    assert right is not None and int(right[2]) == len(panels) and int(right[1]) >= len(panels) - 1
    folder = zoo.checkout_folder(ALIAS)
    assert folder is not None and read_folder(folder)[0].category == PART
