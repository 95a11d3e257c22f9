"""Photographs that people call good or bad, and a model whose memory judges alone."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import chelsea

from stlm_hub.errors import ConfigError, DataError, ImageError
from stlm_hub.model_folder.folder import write_judging
from stlm_hub.model_folder.names import MEMORY_NAME, WEIGHTS_NAME
from stlm_hub.model_folder.results import load
from stlm_hub.pseudo_anomalies.nuisance import of_camera
from stlm_hub.stlm import STLM
from stlm_hub.training.feedback import accept, known_defects, reject, undo
from stlm_hub.training.finetune import finetune
from stlm_hub.training.observer import Observer
from stlm_hub.training.recalibrate import recalibrate

DrawPart = Callable[..., Path]


@pytest.fixture(scope="module")
def memory_alone(good_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune(good_parts, "part", output=tmp_path_factory.mktemp("alone") / "part", steps=0, size=64)


@pytest.fixture
def folder(memory_alone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(memory_alone, tmp_path / "part"))


def scratched(draw_part: DrawPart, path: Path, seed: int = 40) -> Path:
    return draw_part(path, seed, scratched=True)


def test_a_model_without_steps_is_a_memory_that_judges(memory_alone: Path, tmp_path: Path, draw_part: DrawPart) -> None:
    model = STLM.from_pretrained(memory_alone)
    assert model.network is None and model.available == ("memory", "combined")
    assert not (memory_alone / WEIGHTS_NAME).exists() and (memory_alone / MEMORY_NAME).is_file()
    card = (memory_alone / "README.md").read_text()
    assert "**No streams were trained**" in card and "It learnt from 10 photographs of good parts" in card
    assert model.predict(scratched(draw_part, tmp_path / "bad.png")).verdict in ("reject", "unfamiliar")
    assert model.predict(draw_part(tmp_path / "good.png", 41)).verdict in ("pass", "review")
    with pytest.raises(ConfigError, match="This model has no streams"):
        model(torch.zeros(1, 3, 64, 64), ("cosine",))


@pytest.mark.skipif(os.name == "nt", reason="names of files are UTF-16 there")
def test_the_depth_of_the_good_ones_is_kept_and_names_need_not_be_utf_8(
    good_parts: Path, tmp_path: Path, draw_part: DrawPart
) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    for number, path in enumerate(sorted(good_parts.iterdir())):
        pixels = cv2.imread(str(path)).astype(np.uint16) << 4
        data = cv2.imencode(".png", pixels >> 3 if number == 2 else pixels)[1]  # one dark photograph among them
        (deep / os.fsdecode(b"M\xfcller %d.png" % number)).write_bytes(data.tobytes())
    said: list[str] = []
    made = finetune(deep, "deep", output=tmp_path / "m", steps=0, size=64, observer=Observer(on_message=said.append))
    model = STLM.from_pretrained(made)
    assert model.judging.bits == 12 and any("a camera of 12 bits" in message for message in said)
    plain = sorted(good_parts.iterdir())[5]
    assert model.predict(deep / os.fsdecode(b"M\xfcller 5.png")).score == model.predict(plain).score
    new = cv2.imread(str(draw_part(tmp_path / "new.png", 51))).astype(np.uint16) << 4
    (deep / os.fsdecode(b"M\xfcller new.png")).write_bytes(cv2.imencode(".png", new)[1].tobytes())
    changed = accept(made, [deep / os.fsdecode(b"M\xfcller new.png")])
    assert STLM.from_pretrained(made).judging.bits == 12 and len(changed.scores) == 1
    reject(made, [deep / os.fsdecode(b"M\xfcller 3.png")])
    assert len(known_defects(made)) == 1


def test_nothing_to_judge_by_is_refused(good_parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to judge by"):
        finetune(good_parts, "part", output=tmp_path / "part", steps=0, memory_entries=0)


def test_what_is_accepted_passes_and_what_is_undone_does_not(folder: Path, tmp_path: Path, draw_part: DrawPart) -> None:
    photograph = scratched(draw_part, tmp_path / "scratched.png")
    before = STLM.from_pretrained(folder)
    score = before.predict(photograph).score
    changed = accept(folder, [photograph], unfamiliar=True)  # the scratch takes a fifth of it
    after = STLM.from_pretrained(folder)
    assert changed.scores == pytest.approx([score], rel=1e-4)
    assert (changed.before, changed.after) == (before.judging.threshold, after.judging.threshold)
    assert after.predict(photograph).verdict == "pass"
    assert len(after.patch_memory.entries) > len(before.patch_memory.entries)  # type: ignore[union-attr]
    assert len(after.judging.normal_scores) == len(before.judging.normal_scores) + 1
    assert load(folder / "results.json").provenance.commands[-1].line == "stlm accept PHOTO --model part"
    assert "patches of 11 photographs of good parts" in (folder / "README.md").read_text()
    taken_back = undo(folder)
    assert (taken_back.rejected, taken_back.threshold) == ([], before.judging.threshold)
    assert STLM.from_pretrained(folder).predict(photograph).score == pytest.approx(score, rel=1e-4)


def test_a_photograph_counts_once(folder: Path, tmp_path: Path, draw_part: DrawPart, good_parts: Path) -> None:
    once, again = draw_part(tmp_path / "once.png", 45), tmp_path / "again.jpg.png"
    shutil.copy(once, again)
    other = draw_part(tmp_path / "other.png", 46)
    changed = accept(folder, [once, again, other, once])
    assert changed.taken == [once, other] and len(changed.scores) == 2
    assert changed.left_out[0] == "again.jpg.png is the same frame as once.png and counts once."
    judging = STLM.from_pretrained(folder).judging
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    remembered = sorted(good_parts.iterdir())[3]
    for known in (once, again, other, remembered):
        with pytest.raises(DataError, match=rf"{known.name} is in the memory .* Nothing is changed\."):
            accept(folder, [known])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    changed = accept(folder, [once, draw_part(tmp_path / "third.png", 47)])
    assert [path.name for path in changed.taken] == ["third.png"]
    assert len(STLM.from_pretrained(folder).judging.normal_scores) == len(judging.normal_scores) + 1


def test_what_nothing_new_is_on_is_known_all_the_same(folder: Path, tmp_path: Path, draw_part: DrawPart) -> None:
    for seed in range(70, 76):
        path = draw_part(tmp_path / f"{seed}.png", seed)
        assert accept(folder, [path]).taken == [path]
        with pytest.raises(DataError, match="does not count again"):
            accept(folder, [path])


def test_a_picture_of_something_else_is_refused_and_a_near_miss_is_not(
    folder: Path, tmp_path: Path, draw_part: DrawPart
) -> None:
    cat = tmp_path / "cat.png"
    Image.fromarray(chelsea()).save(cat)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=r"cat\.png does not look like the part: .* say so with --unfamiliar"):
        accept(folder, [draw_part(tmp_path / "good.png", 48), cat])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    near = draw_part(tmp_path / "near.png", 49)
    model = STLM.from_pretrained(folder)
    share = 1.2 / model.predict(near).unfamiliarity  # the limits are such that it is unfamiliar by a fifth
    limits = tuple(limit / share for limit in model.judging.familiarity_limits)
    write_judging(folder, model.judging.replace(familiarity_limits=limits))
    assert STLM.from_pretrained(folder).predict(near).verdict == "unfamiliar"
    accept(folder, [near])
    assert STLM.from_pretrained(folder).predict(near).verdict != "unfamiliar"
    accept(folder, [cat], unfamiliar=True)
    assert STLM.from_pretrained(folder).predict(cat).verdict != "unfamiliar"


def test_how_a_model_was_calibrated_is_kept_by_whatever_calibrates_it_again(
    good_parts: Path, tmp_path: Path, draw_part: DrawPart
) -> None:
    wanted = {"false_alarm_rate": 0.05, "careful": True, "camera": "rough", "leave_out": ["part 3.png"]}
    made = finetune(good_parts, "part", output=tmp_path / "part", steps=0, size=64, **wanted)  # type: ignore[arg-type]
    assert json.loads((made / "calibration.json").read_text())["careful"] is True

    def check(folder: Path) -> None:
        judging, known = STLM.from_pretrained(folder).judging, load(folder / "results.json")
        assert judging.careful and judging.calibration is not None
        assert judging.calibration.false_alarm_rate == 0.05
        assert judging.calibration.method == "order statistic"  # not moved by what is painted
        assert judging.threshold > max(judging.normal_scores)
        assert known.nuisance == dataclasses.asdict(of_camera("rough"))

    check(made)
    accept(made, [draw_part(tmp_path / "good.png", 50)])
    check(made)
    undo(made)
    check(made)
    model, results = STLM.from_pretrained(made), load(made / "results.json")
    others = [draw_part(tmp_path / f"new {i}.png", 60 + i) for i in range(5)]
    recalibrate(model, others, tmp_path / "again", repo_id="me/again", results=results)
    check(tmp_path / "again")
    assert load(tmp_path / "again" / "results.json").provenance.commands[-1].line.endswith("--output again")
    recalibrate(
        model, others, tmp_path / "bold", repo_id="me/bold", results=results, careful=False, false_alarm_rate=0.01
    )
    judging = STLM.from_pretrained(tmp_path / "bold").judging
    assert not judging.careful and judging.calibration is not None and judging.calibration.false_alarm_rate == 0.01
    assert "careful" not in json.loads((tmp_path / "bold" / "calibration.json").read_text())
    line = load(tmp_path / "bold" / "results.json").provenance.commands[-1].line
    assert line.endswith("--false-alarm-rate 0.01 --no-careful")


def test_a_known_defect_is_shown_and_nothing_learns_from_it(folder: Path, tmp_path: Path, draw_part: DrawPart) -> None:
    defect = scratched(draw_part, tmp_path / "defect.png")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert reject(folder, [defect]) == [("defect.png", STLM.from_pretrained(folder).predict(defect).score)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    changed = accept(folder, [draw_part(tmp_path / "good.png", 42)])
    assert [name for name, _ in changed.known_defects] == ["defect.png"]
    assert known_defects(folder) == changed.known_defects


def test_undo_takes_back_an_accept_or_a_reject_whichever_came_later(
    folder: Path, tmp_path: Path, draw_part: DrawPart
) -> None:
    (tmp_path / "other").mkdir()
    defects = [scratched(draw_part, tmp_path / name) for name in ("defect.png", "other/defect.png")]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    reject(folder, defects[:1])
    known = accept(folder, [draw_part(tmp_path / "good.png", 42)])
    assert [name for name, _ in reject(folder, defects)] == ["defect.png", "2_defect.png", "3_defect.png"]
    taken_back = undo(folder)
    assert taken_back.rejected == ["2_defect.png", "3_defect.png"]
    assert (taken_back.threshold, taken_back.known_defects) == (known.after, known.known_defects)
    assert undo(folder).rejected == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert undo(folder).rejected == ["defect.png"] and known_defects(folder) == []
    with pytest.raises(ConfigError, match="has no earlier version"):
        undo(folder)


def test_photographs_are_rejected_all_or_none(
    folder: Path, tmp_path: Path, draw_part: DrawPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    defects = [scratched(draw_part, tmp_path / f"defect {i}.png", 40 + i) for i in range(2)]
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> Path:
        if Path(source) == defects[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Path(copy(source, target))

    with monkeypatch.context() as patch, pytest.raises(ConfigError, match=r"cannot be written \(No space left"):
        patch.setattr(shutil, "copyfile", full)
        reject(folder, defects)
    assert known_defects(folder) == []


def test_a_photograph_that_cannot_be_read_changes_nothing(folder: Path, tmp_path: Path, draw_part: DrawPart) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for take in (accept, reject):
        with pytest.raises(ImageError):
            take(folder, [draw_part(tmp_path / "good.png", 43), broken])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert known_defects(folder) == []


def test_models_that_cannot_take_a_photograph_in_say_why(tmp_path: Path, tiny_model: STLM, draw_part: DrawPart) -> None:
    good = draw_part(tmp_path / "good.png", 44)
    with pytest.raises(ConfigError, match="There is no folder mvtec-bottle"):
        accept(Path("mvtec-bottle"), [good])
    tiny_model.save_pretrained(tmp_path / "plain")
    with pytest.raises(ConfigError, match="has no memory that could take a photograph in"):
        accept(tmp_path / "plain", [good])


def test_a_calibration_on_photographs_of_the_memory_is_refused(
    memory_alone: Path, good_parts: Path, tmp_path: Path, draw_part: DrawPart
) -> None:
    model, remembered = STLM.from_pretrained(memory_alone), sorted(good_parts.iterdir())
    with pytest.raises(DataError, match=r"of 10 photographs are in the memory of the model \(part \d"):
        recalibrate(model, remembered, tmp_path / "again", repo_id="me/again")
    others = [draw_part(tmp_path / f"new {i}.png", 60 + i) for i in range(5)]
    made = recalibrate(model, others, tmp_path / "new", repo_id="me/new")
    assert made.calibration is not None and made.calibration.n == 5


def test_photographs_are_left_out_by_name(good_parts: Path, tmp_path: Path) -> None:
    made = finetune(good_parts, "part", output=tmp_path / "part", steps=0, size=64, leave_out=["part 3.png"])
    data = load(made / "results.json").dataset
    assert data.train is not None and data.held_out is not None and data.train.n + data.held_out.n == 9
    with pytest.raises(ConfigError, match=r"There is no photograph part 77\.png"):
        finetune(good_parts, "part", output=tmp_path / "other", steps=0, size=64, leave_out=["part 77.png"])
