"""`stlm predict`: a verdict a line, panels, JSON, and photographs that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn import write_photographs
from PIL import Image

from stlm_hub.stlm import STLM

Stlm = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("toy_streams")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with two photographs and two more in a folder of its own."""
    write_photographs(tmp_path / "photos", 2)
    write_photographs(tmp_path / "photos" / "more", 2)
    return tmp_path / "photos"


def test_a_line_for_each_photograph(stlm: Stlm, photographs: Path, saved_memory_toy: Path) -> None:
    code, out, err = stlm("predict", photographs, "-m", saved_memory_toy)
    assert code == 0 and not err
    model = STLM.from_pretrained(saved_memory_toy, device="cpu")
    lines = out.splitlines()
    assert len(lines) == 4
    for name in ("part_0.png", "part_1.png", "more/part_0.png", "more/part_1.png"):
        prediction = model.predict(photographs / name)
        (line,) = [line for line in lines if line.endswith(str(photographs / name))]
        assert line.startswith("ANOMALOUS" if prediction.is_anomalous else "normal")
        assert f"score {prediction.score:.4f}  threshold 0.6250" in line


def test_json_is_one_object_a_line(stlm: Stlm, photographs: Path, saved_toy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    paths = [photographs / "part_0.png", broken, photographs / "part_1.png"]
    code, out, err = stlm("predict", *paths, "-m", saved_toy, "--json", "--threshold", "0.25")
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["path"] for one in told] == [str(path) for path in paths]
    model = STLM.from_pretrained(saved_toy, device="cpu")
    for one in (told[0], told[2]):
        expected = model.predict(one["path"], threshold=0.25).to_dict()
        assert one["panel"] is None and one["score"] == pytest.approx(expected["score"], abs=1e-6)
        assert (one["is_anomalous"], one["threshold"]) == (True, 0.25)
    assert told[1].keys() == {"path", "error"} and "broken.png is empty" in told[1]["error"]
    assert code == 1 and "1 of 3 photographs could not be used; see above." in err


def test_panels_of_folders_of_the_same_names_are_kept_apart(
    stlm: Stlm, photographs: Path, saved_toy: Path, tmp_path: Path
) -> None:
    code, out, _ = stlm("predict", photographs, "-m", saved_toy, "--output", tmp_path / "panels")
    panels = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert code == 0 and panels == ["more_part_0.png", "more_part_1.png", "photos_part_0.png", "photos_part_1.png"]
    assert all(str(tmp_path / "panels" / name) in out for name in panels)
    with Image.open(tmp_path / "panels" / panels[0]) as panel:
        assert panel.width > 3 * 90


def test_what_cannot_be_used_is_told_and_the_others_are_judged(
    stlm: Stlm, photographs: Path, saved_toy: Path, tmp_path: Path
) -> None:
    (photographs / "part_0.png").write_bytes(b"no picture")
    (tmp_path / "panels").write_text("in the way")
    code, out, err = stlm("predict", photographs, tmp_path / "none.png", "-m", saved_toy)
    assert code == 1 and "2 of 5 photographs could not be used" in err and "Traceback" not in err + out
    assert out.count("unusable") == 2 and out.count("score ") == 3
    code, out, err = stlm("predict", photographs, "-m", saved_toy, "-o", tmp_path / "panels")
    assert code == 1 and "cannot be written" in out and "4 of 4" in err
