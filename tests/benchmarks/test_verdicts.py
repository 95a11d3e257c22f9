"""benchmarks/verdicts.py and robustness.py: thresholds of each rule, what is counted, and disturbed photographs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drawn import grey, texture, write_photographs
from PIL import Image

from benchmarks import data_sets, robustness, robustness_peers, verdicts, verdicts_peer
from benchmarks.data_sets import PhotoSet, read_set
from benchmarks.peer_job import Job
from stlm_hub.errors import DataError
from stlm_hub.model_folder.figures import MapFigures
from stlm_hub.predict.prediction import Prediction

SCORES = np.linspace(0.1, 0.3, 41)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one set, "part", of six good photographs, two of the test and three anomalous ones."""
    monkeypatch.setattr(data_sets, "SETS", {"part": "some/part"})
    for folder, n in (("train/good", 6), ("test/good", 2), ("test/dent", 3)):
        place = tmp_path / "some" / "part" / folder
        place.parent.mkdir(parents=True, exist_ok=True)
        write_photographs(place, n)
    return tmp_path


def test_a_set_is_read_without_masks(data: Path) -> None:
    found = read_set(data, "part")
    assert [len(paths) for paths in (found.train, found.good, found.anomalous)] == [6, 2, 3]
    with pytest.raises(DataError, match="There is no set 'parts'; choose from part"):
        read_set(data, "parts")


def test_rules_lie_where_their_names_say() -> None:
    thresholds = {name: rule(SCORES) for name, rule in verdicts.RULES.items()}
    assert thresholds["highest"] == thresholds["conformal"] == pytest.approx(0.3)  # 41 do not carry 1 %
    assert thresholds["log-odds t"] > 0.3
    assert thresholds["gaussian"] == pytest.approx(0.2 + 2.326 * SCORES.std(ddof=1), abs=1e-4)
    assert verdicts.conformal(np.arange(199) / 200) == pytest.approx(197 / 200)
    assert 0.26 < thresholds["pareto"] < 0.4


def test_a_rule_is_told_by_what_it_rejects_and_misses() -> None:
    good, anomalous = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.5])
    assert verdicts._told(good >= 0.3, anomalous >= 0.3) == {"balanced": 75.0, "rejected": 50.0, "missed": 0.0}
    assert verdicts._told(good >= 0.45, anomalous >= 0.45) == {"balanced": 75.0, "rejected": 0.0, "missed": 50.0}
    assert verdicts.balanced_accuracy(good, anomalous, 0.3) == 75.0


def test_nonconform_is_asked_in_its_own_python_and_rejects_by_its_p_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "nonconform"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scoring.py").write_text(  # the package needs Python 3.12; this is what it documents
        "import numpy as np\n\n\n"
        "class Empirical:\n"
        "    def compute_p_values(self, scores, calibration):\n"
        "        above = (calibration[None] >= scores[:, None]).sum(1)\n"
        "        return (1 + above) / (1 + len(calibration))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asked = np.array([0.05, 0.295, 0.3, 0.31])
    few = verdicts_peer.rejected_by_nonconform(Path(sys.executable), SCORES, asked, 0.01)
    assert few.tolist() == (asked > verdicts.conformal(SCORES)).tolist() == [False, False, False, True]
    tenth = verdicts_peer.rejected_by_nonconform(Path(sys.executable), SCORES, asked, 0.1)
    assert tenth.tolist() == [False, True, True, True]


def test_a_row_learns_from_some_photographs_and_judges_the_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[str] = []

    def finetune(photographs: Path, name: str, *, output: Path, steps: int, seed: int, observer: object) -> Path:
        learnt.extend(path.name for path in photographs.iterdir())
        assert (name, steps, seed) == ("part", 0, 3) and not output.exists()
        return output

    def predict(path: Path) -> Prediction:
        score = {"good": 0.2, "dent": 0.8}[path.parent.name]
        return Prediction(grey(0, 8, 8), np.zeros((8, 8), np.float32), score, 0.5)

    calibrated = {"normal_scores": (0.1, 0.15, 0.2, 0.3, 0.35, 0.4), "disturbed_scores": (), "probe_scores": (0.7,)}
    judging = SimpleNamespace(threshold=0.9, **calibrated)
    model = SimpleNamespace(predict=predict, judging=judging)
    evaluation = SimpleNamespace(figures={"memory": MapFigures(i_auroc=0.9, ap=0.4)})
    monkeypatch.setattr(verdicts, "evaluate", lambda judged, test, thresholds: evaluation)
    monkeypatch.setattr(verdicts, "finetune", finetune)
    monkeypatch.setattr(verdicts, "STLM", SimpleNamespace(from_pretrained=lambda folder: model))
    row = verdicts.measure(read_set(data, "part"), 4, 0, 3)
    assert len(set(learnt)) == row["photographs"] == 4 and row["set"] == "part"
    assert row["verdicts"] == {"good": {"pass": 2}, "anomalous": {"reject": 3}}
    assert (row["i_auroc"], row["best"]) == (100.0, 100.0)
    assert row["rules"]["stlm_hub"] == {"balanced": 50.0, "rejected": 0.0, "missed": 100.0}  # of its threshold
    assert set(row["rules"]) == {"stlm_hub", *verdicts.RULES}
    assert row["maps"] == {"memory": {"i_auroc": 0.9, "ap": 0.4}}  # what is not known is left out
    assert row["rules"]["highest"]["balanced"] == 100.0
    assert row["scores"]["good"] == "0.2000 0.2000" and row["scores"]["anomalous"] == "0.8000 0.8000 0.8000"
    assert row["scores"]["normal"].split()[1] == "0.1500"
    assert (row["scores"]["disturbed"], row["scores"]["probe"]) == ("", "0.7000")


def test_rows_that_were_measured_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def measure(found: PhotoSet, n: int, steps: int, seed: int, nonconform: Path | None) -> dict[str, object]:
        measured.append(n)
        return {"set": found.name, "photographs": n or len(found.train), "steps": steps, "seed": seed}

    monkeypatch.setattr(verdicts, "SETS", data_sets.SETS)
    monkeypatch.setattr(verdicts, "measure", measure)
    monkeypatch.setattr(verdicts, "show", lambda rows: None)
    output = tmp_path / "verdicts.json"
    verdicts.main(data, output, photographs=[4, 0, 10])
    assert measured == [4, 0]  # there are no ten
    verdicts.main(data, output, photographs=[4, 0])
    assert measured == [4, 0] and len(json.loads(output.read_text())["rows"]) == 2
    verdicts.main(data, output, photographs=[4], seed=1)
    assert measured == [4, 0, 4] and len(json.loads(output.read_text())["rows"]) == 3


@pytest.mark.parametrize("name", robustness.DISTURBANCES)
def test_a_disturbance_keeps_the_photograph_recognisable(name: str) -> None:
    image = texture(96, 128)
    changed = robustness.DISTURBANCES[name](image)
    assert changed.dtype == np.uint8 and changed.shape[2] == 3
    sizes = {"half size": (48, 64), "shift 2 %": (94, 125), "turn 2 degrees": (90, 124)}  # without an invented border
    assert changed.shape[:2] == sizes.get(name, (96, 128))
    assert np.array_equal(changed, image) == (name == "as it is")
    resized = np.asarray(Image.fromarray(changed).resize((128, 96)))
    assert np.abs(resized.astype(int) - image).mean() < 40


@pytest.mark.parametrize("change", [robustness.painted_out, robustness.half_out])
def test_a_part_is_taken_out_of_its_photograph(change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    image = grey(200, 96, 128)
    image[30:66, 44:84] = (40, 60, 160)
    changed = change(image)
    assert changed is not None and changed.shape == image.shape and changed.dtype == np.uint8
    dark = (changed[..., 0] < 120).mean() / (image[..., 0] < 120).mean()
    assert dark < 0.1 if change is robustness.painted_out else 0.3 < dark < 0.7


def test_what_a_judge_says_is_counted_by_disturbance_and_by_kind(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"as it is": lambda image: image, "gain -15 %": np.zeros_like}
    monkeypatch.setattr(robustness, "DISTURBANCES", changes)
    blank = [("blank", np.full((8, 8, 3), level, np.uint8)) for level in (0, 255)]
    monkeypatch.setattr(robustness, "foreign", lambda data, part, good: iter(blank))

    def judge(images: list[np.ndarray]) -> list[str]:
        return ["unfamiliar" if image.max() == 0 else "review" for image in images]

    row = robustness.measure("a model", judge, read_set(data, "part"), data, 2)
    assert row["disturbances"] == {
        "as it is": {"rejected": 0, "unfamiliar": 0, "missed": 2},
        "gain -15 %": {"rejected": 0, "unfamiliar": 2, "missed": 0},
    }
    assert row["foreign"] == {"blank": {"unfamiliar": 1, "review": 1}}
    assert (row["model"], row["good"], row["anomalous"]) == ("a model", 2, 2)


def test_a_peer_judges_by_the_highest_score_of_photographs_that_it_was_not_fitted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    def run_process(python: Path, job: Job, on_progress: object) -> dict[str, object]:
        jobs.append(job)
        return {"scores": [float(cv2.imread(path).mean()) for path in job.photographs] if job.step == "predict" else []}

    monkeypatch.setattr(robustness_peers, "run_process", run_process)
    photographs = [tmp_path / f"{i}.png" for i in range(50)]
    for i, path in enumerate(photographs):
        Image.fromarray(grey(i, 8, 8)).save(path)
    with robustness_peers.peer_judge(tmp_path / "python", "padim", photographs, 64) as judge:
        fitted, held_out = (set(job.photographs) for job in jobs)
        highest = max(int(Path(path).stem) for path in held_out)
        assert (len(fitted), len(held_out)) == (30, 20) and not fitted & held_out
        assert judge([grey(highest, 8, 8), grey(highest + 1, 8, 8)]) == ["pass", "reject"]
    assert [job.share for job in jobs] == [None] * 3 and not Path(jobs[0].model).parent.exists()
    for method, paths, said in (("padim", photographs[:39], "at least 40"), ("simplenet", photographs, "no method")):
        with pytest.raises(DataError, match=said), robustness_peers.peer_judge(tmp_path, method, paths, 64):
            pass
