"""`stlm predict`: a verdict a line, panels, JSON, and photographs that cannot be used."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from drawn import texture, write_photographs
from PIL import Image
from rich.text import Text

from stlm_hub.cli.console import VERDICTS as MARKUP
from stlm_hub.errors import WeightsError
from stlm_hub.model_folder.folder import write_judging
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.prediction import VERDICTS, Prediction, Verdict
from stlm_hub.stlm import STLM
from stlm_hub.zero_shot import as_chosen
from stlm_hub.zero_shot import refine as refine_module

Stlm = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("toy_streams")
WORDS = {verdict: f"{word:<10}" for verdict, (word, _) in VERDICTS.items()}


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
    *lines, summary = out.splitlines()
    assert len(lines) == 4 and summary.startswith("4 photographs: ")
    for name in ("part_0.png", "part_1.png", "more/part_0.png", "more/part_1.png"):
        prediction = model.predict(photographs / name)
        (line,) = [line for line in lines if line.endswith(str(photographs / name))]
        assert line.startswith(WORDS[prediction.verdict])
        assert f"score {prediction.score:.4f}  threshold 0.6250" in line


def test_every_verdict_of_the_library_has_a_word_of_one_width() -> None:
    assert {verdict: Text.from_markup(word).plain for verdict, word in MARKUP.items()} == WORDS
    assert set(WORDS) == set(get_args(Verdict))


def test_a_review_threshold_sets_the_nearly_anomalous_aside(
    stlm: Stlm, photographs: Path, saved_memory_toy: Path
) -> None:
    def verdicts(*options: str) -> set[str]:
        code, out, _ = stlm("predict", photographs, "-m", saved_memory_toy, "--threshold", "1", *options)
        assert code == 0
        return {line.partition("  score")[0].strip() for line in out.splitlines()[:-1]}

    assert verdicts("--review", "0") == {"Review"}
    assert verdicts("--review", "1") == {"Pass"}
    code, out, err = stlm("predict", photographs, "-m", saved_memory_toy, "--threshold", "0.5", "--review", "0.75")
    assert code == 1 and not out and "The review threshold 0.75 lies above the threshold 0.5" in err


def test_what_is_not_the_part_is_called_so(
    stlm: Stlm, photographs: Path, saved_memory_toy: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "narrow")
    write_judging(folder, Judging.load(folder / "calibration.json").replace(familiarity_limits=(1e-3, 1e-3)))
    code, out, _ = stlm("predict", photographs, "-m", folder, "-o", tmp_path / "panels")
    assert code == 0 and out.count("Unfamiliar") == 4 and len(list((tmp_path / "panels").iterdir())) == 4
    _, out, _ = stlm("predict", photographs / "part_0.png", "-m", folder, "--json")
    told = json.loads(out)
    assert told["verdict"] == "unfamiliar" and told["unfamiliarity"] > 1


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
        assert (one["is_anomalous"], one["threshold"], one["verdict"]) == (True, 0.25, "reject")
        assert (one["review_threshold"], one["unfamiliarity"]) == (expected["review_threshold"], 0.0)
    assert told[1].keys() == {"path", "error"} and "broken.png is empty" in told[1]["error"]
    assert code == 1 and "1 of 3 photographs could not be used; see above." in err


def test_panels_of_folders_of_the_same_names_are_kept_apart(
    stlm: Stlm, photographs: Path, saved_toy: Path, tmp_path: Path
) -> None:
    code, out, _ = stlm("predict", photographs, "-m", saved_toy, "--output", tmp_path / "panels")
    panels = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert code == 0 and panels == [
        f"{name}_panel.png" for name in ("more_part_0", "more_part_1", "photos_part_0", "photos_part_1")
    ]
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
    assert out.count("Unusable") == 2 and out.count("score ") == 3
    assert re.search(r"^5 photographs: .*\b2 unusable\.$", out.splitlines()[-1])
    code, out, err = stlm("predict", photographs, "-m", saved_toy, "-o", tmp_path / "panels")
    assert code == 1 and "is a file, so panels cannot be written" in err and not out


def test_no_panel_is_lost_and_none_is_judged(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    for folder in ("a/good", "b/good"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        write_photographs(tmp_path / "photos" / folder, 1)
    long = tmp_path / "photos" / ("部" * 60)
    long.mkdir()
    write_photographs(long, 1)[0].rename(long / f"{'品' * 80}.png")
    panels = tmp_path / "photos" / "panels"
    for _ in range(2):
        code, out, _ = stlm("predict", tmp_path / "photos", "-m", saved_toy, "-o", panels)
        assert code == 0 and out.count("score ") == 3 and len(list(panels.iterdir())) == 3


def test_no_panel_takes_the_place_of_a_photograph(
    stlm: Stlm, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = write_photographs(tmp_path, 2)
    shutil.copy(photographs[1], tmp_path / "part_0_panel.png")  # a photograph, whatever it is called
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time panels lie among the photographs
        code, out, _ = stlm("predict", "part_0.png", "-m", saved_toy, "--output", ".")
        assert code == 0 and out.count("score ") == 1
        code, out, _ = stlm("predict", ".", "-m", saved_toy, "--output", ".")
        assert code == 0 and out.count("score ") == 3
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        assert len(list(tmp_path.iterdir())) == 3 + 3
    code, out, _ = stlm("predict", "part_1_panel.png", "-m", saved_toy)  # named, it is judged
    assert code == 0 and out.count("score ") == 1


def test_a_tilde_is_the_home_folder(
    stlm: Stlm, saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "photos", 1)
    code, _, _ = stlm("predict", "~/photos", "-m", saved_toy, "-o", "~/panels")
    assert code == 0 and len(list((tmp_path / "panels").iterdir())) == 1
    STLM.from_pretrained(saved_toy, device="cpu").predict("~/photos/part_0.png").save("~/one.png")
    assert (tmp_path / "one.png").is_file() and not (tmp_path / "~").exists()


def test_an_unknown_depth_is_said_of_each_file_and_a_named_one_is_used(
    stlm: Stlm, saved_toy: Path, tmp_path: Path
) -> None:
    photograph = texture(60, 70)
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "deep" / name), photograph[..., ::-1].astype(np.uint16) << 2)
    code, out, _ = stlm("predict", tmp_path / "deep", "-m", saved_toy)
    assert code == 0 and all(f"{name}.png is a 16-bit picture that uses only values below 1024" in out for name in "ab")
    _, out, _ = stlm("predict", tmp_path / "deep", "-m", saved_toy, "--json")
    assert all("64 times too dark" in json.loads(line)["notes"][0] for line in out.splitlines())
    code, out, _ = stlm("predict", tmp_path / "deep", "-m", saved_toy, "--bits", "10")
    expected = STLM.from_pretrained(saved_toy, device="cpu").predict(photograph).score
    assert code == 0 and out.count(f"score {expected:.4f}") == 2 and "note" not in out
    code, _, err = stlm("predict", tmp_path / "deep", "-m", saved_toy, "--bits", "9")
    assert code == 1 and "bits must be" in err


@pytest.mark.skipif(os.name == "nt", reason="names of files are UTF-16 there")
def test_a_name_that_is_not_utf_8_is_judged_like_any_other(stlm: Stlm, saved_toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    odd = write_photographs(folder, 2)[0]
    odd.rename(folder / os.fsdecode(b"M\xfcller.png"))
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    code, out, _ = stlm("predict", folder, "-m", saved_toy, "-o", tmp_path / "panels")
    assert code == 1 and out.count("score ") == 2 and out.count("Unusable") == 1
    assert len(list((tmp_path / "panels").iterdir())) == 2
    code, out, _ = stlm("predict", folder, "-m", saved_toy, "--json")
    assert [Path(json.loads(line)["path"]) for line in out.splitlines()] == sorted(folder.iterdir(), key=str)


def test_heic_that_cannot_be_read_is_counted(
    stlm: Stlm, photographs: Path, saved_toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stlm_hub.predict import images, kinds

    for module in (images, kinds):
        monkeypatch.setattr(module, "reads_heic", lambda: False)
    (photographs / "IMG_1.HEIC").write_bytes(b"")
    code, out, err = stlm("predict", photographs, "-m", saved_toy)
    assert code == 0 and out.count("score ") == 4 and '1 HEIC file is left out: pip install "stlm_hub[heic]"' in err


def test_outlines_are_as_the_model_chose_or_as_asked(
    stlm: Stlm, photographs: Path, saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "chosen")
    write_judging(folder, Judging.load(folder / "calibration.json").replace(refine=True))
    refined: list[Prediction] = []

    def refine(prediction: Prediction) -> Prediction:
        refined.append(prediction)
        return prediction

    monkeypatch.setattr(refine_module, "refined", refine)

    def outlined(model: Path, *options: str) -> int:
        refined.clear()
        code, out, _ = stlm("predict", photographs, "-m", model, "--threshold", "0", *options)
        assert code == 0 and out.count("Reject ") == 4
        return len(refined)

    assert (outlined(saved_memory_toy), outlined(saved_memory_toy, "--refine")) == (0, 4)
    assert (outlined(folder), outlined(folder, "--no-refine")) == (4, 0)

    def missing(prediction: Prediction) -> Prediction:
        raise WeightsError("They are nowhere; get them with: stlm weights fetch")

    monkeypatch.setattr(refine_module, "refined", missing)
    monkeypatch.setattr(as_chosen, "_missing", "")
    code, out, err = stlm("predict", photographs, "-m", folder, "--threshold", "0")
    assert code == 0 and out.count("Reject ") == 4
    assert err.count("Note:") == 1 and "stay coarse" in err and "stlm weights fetch" in err
    code, _, err = stlm("predict", photographs, "-m", folder, "--threshold", "0", "--refine")
    assert code == 1 and "Error: They are nowhere" in err
