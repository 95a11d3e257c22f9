"""`stlm report`: what is written, that its figures are right, and that nothing of the user's is written over."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stlm_hub import STLM
from stlm_hub.cli.main import main
from stlm_hub.errors import DataError
from stlm_hub.evaluation.evaluate import evaluate
from stlm_hub.evaluation.report import write_report
from stlm_hub.evaluation.test_folder import read_test_set
from stlm_hub.files.fingerprint import fingerprint
from stlm_hub.model_folder.provenance import DatasetFacts, Split, TestPhotographs
from stlm_hub.model_folder.results import Results
from stlm_hub.samples.parts import write_samples

LOG = [{"step": i, "plain": 0.0, "denoising": 0.3, "focal": 0.02, "l1": 0.4, "total": 0.7} for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Brick at 64 px: 2 good photographs and 1 of each of five kinds of defects."""
    return write_samples(tmp_path_factory.mktemp("data"), n_train=0, n_good=2, n_defect_each=1, size=64)


@pytest.fixture(scope="module")
def finished(category: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on `sample-brick`, through the command line."""
    folder = tmp_path_factory.mktemp("report") / "brick"
    log = folder.with_name("log.jsonl")
    log.write_text("\n".join(map(json.dumps, LOG)) + '\n{"step": 4, "pl')
    with pytest.MonkeyPatch.context() as patch:
        options = ["--data", str(category), "-o", str(folder), "--log", str(log), "--device", "cpu"]
        patch.setattr(sys, "argv", ["stlm", "report", "sample-brick", *options])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder


def rows(report: Path, first: str) -> list[str]:
    """Cells of the row of a table that begins with this cell."""
    line = next(line for line in report.read_text().splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_pictures_with_photographs_are_apart_and_never_committed(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "report.md", "scores.png", "curves.png", "losses.png", "photographs"
    }  # fmt: skip
    kinds = ("crack", "stain", "scratch", "hole", "fibre")
    expected = {"overview.png", "good_worst.png", "good_best.png", *(f"{kind}_only.png" for kind in kinds)}
    photographs = finished / "photographs"
    assert {path.name for path in photographs.glob("*.png")} == expected
    assert (photographs / ".gitignore").read_text() == "*\n"
    text = (finished / "report.md").read_text()
    for name in expected:
        assert f"photographs/{name}" in text
        with Image.open(photographs / name) as picture:
            assert picture.width > 1000
    assert "/report/" in (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()


def test_figures_are_those_of_evaluate(finished: Path, category: Path) -> None:
    model = STLM.from_pretrained("sample-brick", device="cpu")
    assert model.calibration is not None
    threshold = model.calibration.threshold
    found = evaluate(model, read_test_set(category), {"combined": threshold})
    report = finished / "report.md"
    for label, key in (("Image-level AUROC", "i_auroc"), ("AUPRO", "aupro"), ("Pixel-level AP", "ap")):
        measured = [getattr(figures, key) for figures in found.figures.values()]
        assert rows(report, label) == [f"{100 * value:.2f} %" for value in measured]
    fnr = found.figures["combined"].fnr
    assert fnr is not None and rows(report, "FNR at the threshold") == ["-", "-", "-", f"{100 * fnr:.2f} %"]
    missed = [score < threshold for score in found.anomalous_scores]
    for kind, is_missed in zip(("crack", "fibre", "hole", "scratch", "stain"), missed, strict=True):
        cells = rows(report, kind)
        assert cells[0] == "1" and cells[2] == f"{int(is_missed)} of 1" and cells[3].endswith(" %")
    text = report.read_text()
    alarms = sum(score >= threshold for score in found.good_scores)
    assert f"Of 2 good photographs {alarms} reach{'es' if alarms == 1 else ''} the threshold" in text
    assert f"stlm report sample-brick --data {category} --output {finished} --log " in text


def test_a_report_replaces_an_earlier_one_and_nothing_else(tiny_model: STLM, category: Path, tmp_path: Path) -> None:
    output, losses = tmp_path / "out", tmp_path / "losses.png"
    losses.write_bytes(b"a plot")
    test = read_test_set(category)
    ours = TestPhotographs(2, 5, fingerprint(test.photographs + test.masks))
    known = DatasetFacts(split=Split(False, "3 good test photographs"), test=ours)
    done: list[tuple[int, int]] = []
    options: dict[str, Any] = {"losses": losses, "on_image": lambda *progress: done.append(progress)}
    report = write_report(tiny_model, "m", category, output, results=Results(dataset=known), **options)
    text = report.read_text()
    assert report == output / "report.md" and done == [(i, 7) for i in range(1, 8)]
    assert "never calibrated" in text and "[losses.png]" in text
    assert "**The split: not the official one: 3 good test photographs.**" in text
    assert (output / "losses.png").read_bytes() == b"a plot"

    (output / "photographs" / "dent_worst.png").write_bytes(b"of another test set")
    (output / "notes.txt").write_text("mine")
    others = dataclasses.replace(known, test=TestPhotographs(2, 5, "0"))  # of these, results know nothing
    write_report(tiny_model, "m", category, output, results=Results(dataset=others))
    text = report.read_text()
    assert "split" not in text and "losses.png" not in text and not (output / "losses.png").exists()
    assert not (output / "photographs" / "dent_worst.png").exists() and (output / "notes.txt").read_text() == "mine"
    report.write_text("# My own notes")
    with pytest.raises(DataError, match="is not empty and holds no earlier report; name another --output"):
        write_report(tiny_model, "m", category, output)
    assert report.read_text() == "# My own notes"
    with pytest.raises(DataError, match=r"notes\.txt is a file; name a folder"):
        write_report(tiny_model, "m", category, output / "notes.txt")


def test_folders_without_a_test_set_are_refused(tiny_model: STLM, category: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.test is missing; pass --data .*test/good"):
        write_report(tiny_model, "m", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "part" / "test" / "dent").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no good test photographs; figures need both"):
        write_report(tiny_model, "m", tmp_path / "part", tmp_path / "out")
    (tmp_path / "part" / "test" / "good").symlink_to(category / "test" / "good")
    with pytest.raises(DataError, match="holds no anomalous test photographs"):
        write_report(tiny_model, "m", tmp_path / "part", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(None, "cannot be read"), ("", "holds no steps"), ("not a log\n{}", "Line 1 .* is no step"), ("[1]", "no steps")],
)
def test_a_log_that_is_none_is_refused_before_any_work(
    tiny_model: STLM, category: Path, tmp_path: Path, text: str | None, sentence: str
) -> None:
    log = tmp_path / "log.jsonl"
    if text is not None:
        log.write_text(text)
    with pytest.raises(DataError, match=sentence):
        write_report(tiny_model, "m", category, tmp_path / "out", log=log)
    assert not (tmp_path / "out").exists()


def test_a_test_set_without_masks_gets_figures_of_whole_photographs(
    tiny_model: STLM, category: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(category / "test", plain / "test")
    (plain / "test" / "good").rename(plain / "test" / "OK")
    (plain / "test" / ".ipynb_checkpoints").mkdir()
    shutil.copy(next((plain / "test" / "OK").iterdir()), plain / "test" / ".ipynb_checkpoints")
    made = write_report(tiny_model, "tiny", plain, tmp_path / "out")
    assert rows(made, "AUPRO") == rows(made, "Pixel-level AP") == ["-"] * len(rows(made, "AUPRO"))
    assert all(cell.endswith(" %") for cell in rows(made, "Image-level AUROC"))
    assert "There are no masks, so there are no figures of pixels." in made.read_text()
    assert rows(made, "crack")[-1] == "-"


@pytest.mark.skipif(os.name == "nt", reason="names of files are UTF-16 there")
def test_masks_that_look_wrong_are_named_and_names_need_not_be_utf_8(
    category: Path, tmp_path: Path, tiny_model: STLM
) -> None:
    data = Path(shutil.copytree(category, tmp_path / "brick"))
    masks = sorted((data / "ground_truth").glob("*/*.png"))
    inverted, empty = masks[:2]
    Image.fromarray(255 - np.asarray(Image.open(inverted).convert("L"))).save(inverted)
    Image.fromarray(np.asarray(Image.open(empty).convert("L")) * 0).save(empty)
    for folder, new in (("test", b"M\xfc.png"), ("ground_truth", b"M\xfc_mask.png")):
        kind = data / folder / masks[2].parent.name
        next(kind.iterdir()).rename(kind / os.fsdecode(new))
    said: list[str] = []
    report = write_report(tiny_model, "brick", data, tmp_path / "report", say=said.append)
    told = [f"{inverted.parent.name}/{inverted.name} covers", f"{empty.parent.name}/{empty.name} is empty"]
    assert len(said) == 2 and all(words in note for words, note in zip(told, sorted(said), strict=True))
    text = report.read_text()
    assert text.index("## Notes") < text.index("## Figures") and "is it inverted?" in text
