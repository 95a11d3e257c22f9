"""`~` is the home folder in every path that the library and the command line take, and `~part.png` a file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import grey, texture, write_photographs
from PIL import Image

import stlm_hub
from stlm_hub.cli.main import main
from stlm_hub.errors import STLMError
from stlm_hub.predict.images import list_images, load_image
from stlm_hub.predict.prediction import Prediction
from stlm_hub.predict.region_mask import looked_at
from stlm_hub.pseudo_anomalies.textures import TextureSource
from stlm_hub.samples.parts import write_samples
from stlm_hub.training import feedback
from stlm_hub.validate import expanded


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder; commands start in another one, which must stay empty."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["stlm", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_library_expands_every_path(home: Path) -> None:
    photographs = write_photographs(home / "photos", 2)
    assert load_image("~/photos/part_0.png").shape == (70, 90, 3)
    assert list_images("~/photos") == photographs
    assert list(TextureSource.from_folder("~/photos").photographs) == photographs
    prediction = Prediction(grey(9), np.zeros((64, 64), np.float32), 0.1, 0.5)
    assert prediction.save("~/panels/p.png") == home / "panels" / "p.png"
    region = texture(70, 90)
    region[:] = 0
    region[:30] = 255
    Image.fromarray(region).save(home / "region.png")
    assert looked_at("~/region.png", None, (70, 90)) is not None
    made = write_samples(Path("~/samples"), part="brick", n_train=1, n_good=1, n_defect_each=1, size=64)
    assert made == home / "samples" / "brick" and made.is_dir()
    with pytest.raises(STLMError, match=f"{home}/photos holds 2 photographs"):
        stlm_hub.finetune("~/photos", "part", output="~/part")
    for call in (feedback.accept, feedback.reject):
        with pytest.raises(STLMError, match=f"There is no folder {home}/part"):
            call(Path("~/part"), [])
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.usefixtures("toy_streams")
def test_the_command_line_expands_every_path(
    home: Path, saved_memory_toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "model").symlink_to(saved_memory_toy)
    write_photographs(home / "photos", 5)
    photo, model = "~/photos/part_0.png", "~/model"
    assert run(monkeypatch, "predict", photo, f"--model={model}", "--output=~/panels") == 0
    assert len(list((home / "panels").iterdir())) == 1
    rows, options = "~/rows", ("--workers=0",)
    assert run(monkeypatch, "score", "~/photos", f"--model={model}", f"--output={rows}", *options) == 0
    assert (home / "rows" / "part-0000000.parquet").is_file()
    watched = ("--output=~/verdicts", "--csv=~/table.csv", "--rejects=~/rejects", "--once")
    assert run(monkeypatch, "watch", "~/photos", f"--model={model}", *watched) == 0
    assert (home / "verdicts").is_dir() and (home / "table.csv").is_file() and (home / "rejects").is_dir()
    assert run(monkeypatch, "samples", "~/samples", "--part=brick", "--size=64") == 0
    assert (home / "samples" / "brick").is_dir()
    capsys.readouterr()
    for words, sentence in (
        (("finetune", "~/none", "--name=x"), f"{home}/none is not a folder"),
        (("calibrate", "~/none", f"--model={model}", "--output=~/new"), f"{home}/none is not a folder"),
        (("report", model, "--data=~/none", "--output=~/report"), f"{home}/none"),
        (("publish", "~/none", "--repo=a/b"), f"There is no folder {home}/none"),
        (("undo", "--model=~/none"), f"There is no folder {home}/none"),
        (("weights", "import", "~/none.pt"), f"{home}/none.pt"),
        (("space", "build", "~/photos"), f"{home}/photos"),
        (("export", model, "--output=~/photos"), f"{home}/photos"),
    ):
        assert run(monkeypatch, *words) == 1, words
        assert sentence in capsys.readouterr().err.replace("\n", " "), words
    assert list(Path.cwd().iterdir()) == []


def test_a_name_that_only_looks_like_a_home_is_a_file(home: Path) -> None:
    (path,) = write_photographs(Path("photos"), 1)
    path.rename("~part.png")
    assert load_image("~part.png").shape == (70, 90, 3)
    assert list_images(".") == [Path("~part.png")]
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
