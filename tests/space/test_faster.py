"""On a processor the page exports its models and then judges with the exports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from drawn import texture

from stlm_hub.export.export import export
from stlm_hub.model_folder import zoo
from stlm_hub.runtime.facts import ExportFacts
from stlm_page import faster
from stlm_page.models import Models

pytestmark = pytest.mark.usefixtures("toy_streams")
pytest.importorskip("onnxscript", reason='pip install "stlm_hub[export]"')


@pytest.fixture
def own_zoo(saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "zoo.json").write_text('{"models": {}}')
    monkeypatch.setattr(zoo, "ZOO_PATH", tmp_path / "zoo.json")
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    shutil.copytree(saved_memory_toy, tmp_path / "own" / "test-screw")
    return "test-screw"


def test_the_page_judges_with_an_export_as_soon_as_there_is_one(
    own_zoo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported: list[str] = []

    def in_this_process(alias: str) -> bool:
        exported.append(alias)
        made = export(alias)
        assert made.facts.speedup > 0
        return True

    monkeypatch.setattr(faster, "_export", in_this_process)
    monkeypatch.setattr(ExportFacts, "speedup", property(lambda self: 2.0))  # whatever the clock said
    models = Models()
    assert models.get(own_zoo).network.predict(texture(40, 50)).backend == "torch"
    faster.export_beside(models, [own_zoo, "test-missing"]).join(60)
    assert models.get(own_zoo).network.predict(texture(40, 50)).backend == "onnxruntime fp32"
    assert "test-missing is not exported" in capsys.readouterr().err
    faster.export_beside(models, [own_zoo]).join(60)
    assert exported == [own_zoo], "an export that is there is made again"


def test_exports_can_be_forbidden_and_are_not_made_beside_a_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STLM_SPACE_EXPORT", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(faster.torch.cuda, "is_available", lambda: False)
    assert not faster.wanted()  # whoever tries the page at home wants the processor for himself
    monkeypatch.setenv("SPACE_ID", "org/inspection")
    assert faster.wanted()
    monkeypatch.setattr(faster.torch.cuda, "is_available", lambda: True)
    assert not faster.wanted()
    monkeypatch.setattr(faster.torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("STLM_SPACE_EXPORT", "0")
    assert not faster.wanted()
