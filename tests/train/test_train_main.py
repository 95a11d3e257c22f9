"""What happens before a training starts: the right reader, and what the card will say of the photographs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.__main__ as main
from stlm_hub.errors import ConfigError, DataError
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.model_folder.results import Results
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.pseudo_anomalies.nuisance import Nuisance
from stlm_hub.training.job import Job
from stlm_hub.training.observer import Observer
from train import describe
from train.recipe import load_recipe


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What `make` hands to the run, which itself does not happen."""
    seen: list[Job] = []

    def run(job: Job, observer: Observer) -> Results:
        seen.append(job)
        return Results(dataset=job.dataset, maps={"cosine": MapFigures(i_auroc=0.5, fnr=0.25)})

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "starting_weights", lambda *args, **options: None)
    return seen


def make(alias: str, data: Path | None, tmp_path: Path, **options: Any) -> None:
    main.make(alias, data=data, runs=tmp_path / "runs", output=tmp_path / "out", **{"profile": "cpu", **options})


def test_visa_goes_to_its_reader(
    visa_root: Path, tmp_path: Path, handed_over: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    make("visa-candle", visa_root, tmp_path)
    said = capsys.readouterr().out
    assert "The split is not the official one" in said and "without aggregation: i_auroc 50.00, fnr 25.00" in said
    (job,) = handed_over
    assert len(job.split.train) + len(job.split.held_out) == 3
    assert job.test is not None and [path.name for path in job.test.masks] == ["000.png", "001.png"]
    assert (job.dataset.name, job.dataset.license) == ("VisA", "cc-by-4.0")
    assert job.dataset.split is not None and not job.dataset.split.official
    assert job.dataset.note.startswith("Trained and evaluated on photographs scaled down to 8x8 px")
    assert job.paper is None and job.nuisance == Nuisance()
    assert (job.work, job.output) == (tmp_path / "runs" / "visa-candle-cpu", tmp_path / "out" / "visa-candle")
    assert (job.provenance.alias, job.provenance.repo_id) == ("visa-candle", "stlm-hub/stlm-visa-candle")
    assert [command.line for command in job.provenance.commands] == [
        "python -m train visa-candle --profile cpu --data DIR"
    ]


def test_dagm_goes_to_its_reader(dagm_class: Path, tmp_path: Path, handed_over: list[Job]) -> None:
    make("dagm-class3", dagm_class.parent, tmp_path)
    (job,) = handed_over
    assert len(job.split.train) + len(job.split.held_out) == 30
    assert job.test is not None and len(job.test.good) == 30 and len(job.test.anomalous) == 10
    note = job.dataset.note
    assert "coarse ellipses" in note and note.endswith("8x8 px; the data set ships others.")
    assert job.paper is None


def test_mvtec_goes_to_its_reader_with_the_papers_figures(
    tmp_path: Path, picture: Callable[..., None], handed_over: list[Job]
) -> None:
    folder = tmp_path / "mvtec_ad" / "cable"
    for i in range(3):
        picture(folder / "train" / "good" / f"{i}.png")
    picture(folder / "test" / "good" / "0.png")
    picture(folder / "test" / "bent_wire" / "0.png")
    picture(folder / "ground_truth" / "bent_wire" / "0_mask.png")
    make("mvtec-cable", folder.parent, tmp_path)
    (job,) = handed_over
    assert job.test is not None and job.test.anomalous == [folder / "test" / "bent_wire" / "0.png"]
    assert job.paper is not None and job.paper.p_auroc == 0.9695 and job.paper.image_size == 1024
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|", job.commit)
    for profile in ("cpu-short", "cpu-paper"):
        with pytest.raises(ConfigError, match=f"{profile} is for `python -m train ablate`"):
            make("mvtec-cable", folder.parent, tmp_path, profile=profile)
    shutil.rmtree(folder / "test" / "bent_wire")
    with pytest.raises(DataError, match="holds no anomalous test photographs; figures need both"):
        make("mvtec-cable", folder.parent, tmp_path)


def test_code_that_is_not_committed_is_dirty(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True)

    assert describe._commit(tmp_path) == ""  # no checkout
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (tmp_path / "results.json").write_text("what the program writes")
    assert re.fullmatch(r"[0-9a-f]{40}", describe._commit(tmp_path))
    (tmp_path / "new.yaml").write_text("a recipe that is not added yet")
    assert describe._commit(tmp_path).endswith("-dirty")


def test_a_data_set_needs_its_folder(tmp_path: Path, handed_over: list[Job]) -> None:
    with pytest.raises(ConfigError, match="pass --data with the folder that DAGM 2007 was unpacked to"):
        make("dagm-class10", None, tmp_path)
    with pytest.raises(DataError, match=r"Class10.Train.Label.Labels\.txt is missing"):
        make("dagm-class10", tmp_path, tmp_path)
    assert not handed_over


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"teacher_checkpoint": Path("sam_vit_h.pth")}, "needs no --teacher-checkpoint"),
        ({"seed": 1, "memory_entries": 16}, "leave out --memory-entries and --backbone, or --seed"),
        ({"seed": 1, "backbone": "mobile_sam"}, "leave out --memory-entries and --backbone, or --seed"),
        ({"backbone": "vit_h"}, "patch_memory backbone must be one of"),
        ({"backbone": "mobile_sam", "memory_entries": 0}, "mvtec-bottle has no memory whose backbone could be named"),
        ({"network": Path("model"), "textures": Path("dtd")}, "--network trains nothing; leave out --textures"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], sentence: str, tmp_path: Path, handed_over: list[Job]
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make("mvtec-bottle", tmp_path, tmp_path, **options)
    assert not handed_over


def test_options_reach_the_run_and_the_command(visa_root: Path, tmp_path: Path, handed_over: list[Job]) -> None:
    checkpoint = tmp_path / "secret" / "sam_vit_h.pth"
    memory: dict[str, Any] = {"memory_entries": 16, "backbone": "mobile_sam"}
    make("visa-candle", visa_root, tmp_path, **memory, weights=tmp_path / "secret" / "w.safetensors")
    make("visa-candle", visa_root, tmp_path, profile="paper-gpu", teacher_checkpoint=checkpoint, workers=3)
    make("visa-candle", visa_root, tmp_path, memory_entries=0)
    first, second, third = handed_over
    assert first.config.patch_memory == PatchMemoryConfig(16, 128, "mobile_sam") and first.anomaly_map == "combined"
    assert (second.teacher_checkpoint, second.workers, second.nuisance) == (checkpoint, 3, None)
    assert third.config.patch_memory is None and third.anomaly_map == "aggregation"
    assert [job.provenance.commands[0].line.partition("--profile ")[2] for job in handed_over] == [
        "cpu --data DIR --weights w.safetensors --memory-entries 16 --backbone mobile_sam",
        "paper-gpu --data DIR --teacher-checkpoint sam_vit_h.pth",
        "cpu --data DIR --memory-entries 0",
    ]


def test_photographs_at_their_own_size_need_no_note(tmp_path: Path) -> None:
    for side, noted in {699: True, 700: False}.items():
        assert bool(describe._note(load_recipe("mvtec-cable", "paper-gpu"), tmp_path / "x.png", (side, 600))) == noted
    note = describe._note(load_recipe("mvtec-cable", "paper-gpu"), tmp_path / "x.jpg", (512, 512))
    assert "scaled down to 512x512 px and stored as .jpg instead of .png; the data set" in note
    note = describe._note(load_recipe("dagm-class1", "cpu"), tmp_path / "x.png", (512, 512))
    assert "ellipses" in note and "scaled down" not in note
