"""The model card: what is in it and where, and the file itself."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from card_model import CONFIG, JUDGING, REPO_ID, RESULTS, TRAINING, changed, rendered, section, table
from PIL import Image

from stlm_hub.errors import ConfigError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.model_folder import results as results_file
from stlm_hub.model_folder.card import card
from stlm_hub.model_folder.card.card import render_card, write_card
from stlm_hub.model_folder.folder import write_config, write_judging
from stlm_hub.model_folder.names import WEIGHT_FILES
from stlm_hub.model_folder.provenance import CalibrationFacts, Circumstances, StartingPoint
from stlm_hub.model_folder.results import FileFacts, Results
from stlm_hub.models.stlm.config import PatchMemoryConfig, STLMConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.pseudo_anomalies.nuisance import Nuisance


def test_a_card_without_any_results_claims_nothing() -> None:
    text = render_card(Results(), STLMConfig(), Judging(), repo_id="org/new")
    assert "**Not measured.**" in text
    assert "This model was not calibrated" in text and "score is 0.5 or higher" in text
    assert "None" not in text and "Undefined" not in text
    assert set(table(section(text, "How it was trained"))) == {"", "---|---", "Image size"}


def test_the_training_table_says_how_to_make_the_model_again() -> None:
    part = section(rendered(), "How it was trained")
    rows = table(part)
    assert rows["Photographs"] == ["MVTec AD: 178 good for training, 31 good held out"]
    assert rows["Pseudo anomalies"] == ["perlin, nsa, on 50 % of the photographs"]
    assert rows["Training"] == ["1237 steps of 4 photographs, 83 min on AMD EPYC 7763, 2 cores, seed 3"]
    assert rows["Size"] == ["17,019,689 parameters, 34.1 MB of float16"]
    assert rows["Time for one photograph"] == ["213.7 ms at 384 px with 2 threads on AMD EPYC 7763, 2 cores"]
    assert rows["Made"] == ["2026-11-23, stlm\\_hub 0.1.0, commit c0de"] and "Network" not in rows
    assert "```bash\npython -m train mvtec-bottle --profile cpu --data DIR\n```" in part


def test_a_memory_that_judges_alone_learnt_from_every_photograph_that_it_holds() -> None:
    results, memory = changed(dataset={"remembered": 209}), PatchMemoryConfig()
    text = rendered(results, CONFIG.replace(patch_memory=memory))
    assert "It learnt from 178 photographs of good parts" in text
    assert f"Beside them, PatchCore's memory holds {memory.entries} patches of 209 photographs of good parts as" in text

    alone = CONFIG.replace(patch_memory=memory, streams=False)
    text = rendered(dataclasses.replace(results, training=None), alone)
    assert "It learnt from 209 photographs of good parts" in text
    rows = table(section(text, "How it was trained"))
    assert rows["Photographs"] == ["MVTec AD: 209 good for the memory"]
    again = dataclasses.replace(results, training=None, recalibration=CalibrationFacts())
    rows = table(section(rendered(again, alone), "How it was trained"))
    assert rows["Photographs"][0].endswith("209 good for the memory, 31 good of its user's own for the threshold")


def test_a_network_that_is_older_than_its_folder_says_when_it_was_trained() -> None:
    training = dataclasses.replace(TRAINING, made=Circumstances("2026-11-01", "a laptop"), seconds=61.0)
    rows = table(section(rendered(changed(training=training)), "How it was trained"))
    assert rows["Network"] == ["trained 2026-11-01, commit not kept, unchanged since"]
    assert rows["Training"][0].endswith("61 s on a laptop, seed 3")


def test_pseudo_anomalies_are_told_with_their_shares() -> None:
    def row(**synthesis: Any) -> str:
        training = dataclasses.replace(TRAINING, settings={"synthesis": synthesis})
        text = section(rendered(changed(training=training)), "How it was trained")
        return table(text).get("Pseudo anomalies", [""])[0]

    families = ["erase", "erase", "nsa"]
    assert row(families=families, probability=0.5, on_part=True) == (
        "erase (2 of 3), nsa (1 of 3), on 50 % of the photographs, on the part alone"
    )
    assert row(families=["erase"]) == "erase"
    assert row(families="perlin", probability="often", on_part=1) == ""  # what is of another kind is left out


def test_how_copies_of_the_photographs_were_disturbed_is_told() -> None:
    def row(nuisance: dict[str, Any] | None) -> str:
        rows = table(section(rendered(changed(nuisance=nuisance)), "How it was trained"))
        return rows.get("Disturbed copies", [""])[0]

    assert row(dataclasses.asdict(Nuisance())) == (
        "brightness +-15 %, fall-off of light +-15 %, blur up to 1.2 px, noise up to 6 grey levels, "
        "JPEG from quality 60"
    )
    assert row({"gain": 0.0, "blur": 0, "noise": 2.5}) == "noise up to 2.5 grey levels"  # 0 leaves one out
    assert row({"gain": "0.3", "noise": None, "blur": [1]}) == ""  # what is of another kind is left out
    assert row({}) == row(None) == ""


@pytest.mark.parametrize("path", ["/home/jdoe/secret/weights.pt", "C:\\Users\\jdoe\\weights.pt"])
def test_the_path_of_starting_weights_on_someones_machine_is_not_published(path: str) -> None:
    text = rendered(changed(training=dataclasses.replace(TRAINING, starting_weights=StartingPoint(path))))
    assert table(section(text, "How it was trained"))["Starting weights"] == ["weights.pt"]
    assert "jdoe" not in text


def test_the_smallest_defect_is_said_for_the_grid_of_the_finest_level() -> None:
    assert "1/48 of the side" in rendered()
    coarse = dataclasses.replace(CONFIG.network, feature_levels=("embedding", "decoder"))
    assert "1/24 of the side" in rendered(config=CONFIG.replace(network=coarse))


def test_only_pictures_that_are_there_are_shown_and_a_defect_comes_first() -> None:
    text = rendered(images=["good_000.png", "scores.png", "samples/broken large.png"])
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert shown == ["samples/broken%20large.png", "scores.png", "good_000.png"]
    assert "](samples/broken%20large.png)" in text.split("\n## ")[0]
    assert "![" not in rendered()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's small files."""
    write_config(tmp_path, CONFIG)
    write_judging(tmp_path, JUDGING)
    results_file.save(RESULTS, tmp_path / "results.json")
    return tmp_path


def test_write_card_shows_the_folders_pictures_and_replaces_an_older_card(folder: Path) -> None:
    (folder / "README.md").write_text("the short one")
    Image.new("RGB", (8, 8)).save(folder / "curves.png")
    before = set(folder.iterdir())
    path = write_card(folder, REPO_ID)
    assert path == folder / "README.md" and set(folder.iterdir()) == before
    assert path.read_text(encoding="utf-8") == rendered(images=["curves.png"])
    assert path.read_bytes().startswith(b"---\n") and b"\r" not in path.read_bytes()


def test_a_folder_without_results_gets_a_card_of_what_is_known(folder: Path) -> None:
    (folder / "results.json").unlink()
    text = write_card(folder, REPO_ID).read_text()
    assert text == rendered(Results())
    assert "**Not measured.**" in text and "score is **0.413279** or higher" in text and "bottle" in text


@pytest.mark.parametrize("name", ["config.json", "calibration.json", "results.json"])
def test_write_card_refuses_broken_files(folder: Path, name: str) -> None:
    (folder / name).write_text('{"strange": 1}')
    with pytest.raises(ConfigError, match=re.escape(name)):
        write_card(folder, REPO_ID)
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_write_card_refuses_results_of_other_weights(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"weights")
    known = FileFacts(file_sha256(folder / name), 7)
    results_file.save(changed(files={name: known}), folder / "results.json")
    write_card(folder, REPO_ID)
    (folder / name).write_bytes(b"others")
    with pytest.raises(ConfigError, match=f"of another {name}"):
        write_card(folder, REPO_ID)


def test_the_template_of_an_installed_library_comes_before_that_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def library(name: str, *folders: str) -> None:
        home = tmp_path / name / "stlm_hub" / "model_folder" / "card"
        home.mkdir(parents=True)
        for folder in folders:
            (tmp_path / name / folder).mkdir(parents=True)
            (tmp_path / name / folder / card.TEMPLATE).write_text(f"from {folder}")
        monkeypatch.setattr(card, "__file__", str(home / "card.py"))

    library("neither")
    with pytest.raises(ConfigError, match="install stlm_hub again"):
        rendered()
    library("checkout", "model_cards/template")
    assert rendered() == "from model_cards/template\n"
    library("both", "model_cards/template", "stlm_hub/model_folder/card/template")
    assert rendered() == "from stlm_hub/model_folder/card/template\n"
