"""How well calibrated thresholds judge: verdict regret on every set, for few and many photographs.

    python benchmarks/verdicts.py --data DIR --output benchmarks/verdicts.json

Verdict regret is the balanced accuracy at the best threshold for the test photographs minus that at the calibrated one.
Beside stlm_hub's rule stand others, on the same scores of the same model. With --steps 0 (the default here) models are
memories alone, which takes a minute each; --steps 400 measures `stlm finetune` as it is. A row of the file that was
measured before is kept. --nonconform adds what a package for conformal prediction says, see `verdicts_peer.py`.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from scipy.stats import genpareto, norm, t
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.data_sets import SETS, PhotoSet, read_set  # noqa: E402
from benchmarks.figures import read_rows, write_rows  # noqa: E402
from benchmarks.verdicts_peer import rejected_by_nonconform  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.cli.progress import RunProgress  # noqa: E402
from stlm_hub.drawing.log_odds import log_odds  # noqa: E402
from stlm_hub.evaluation.evaluate import evaluate  # noqa: E402
from stlm_hub.stlm import STLM  # noqa: E402
from stlm_hub.training.finetune import finetune  # noqa: E402

NUMBERS = (10, 20, 50, 0)
"""Good photographs to learn from; 0: all."""
RATE = 0.01
FIGURES = ("i_auroc", "p_auroc", "aupro", "ap")
"""Of each map that the model has; None where there are no masks."""
CALIBRATED = ("normal", "disturbed", "probe")
"""Scores that the threshold was chosen by, see `Judging`."""


def log_odds_t(scores: np.ndarray) -> float:
    """The rule before this one: the prediction bound of normally distributed log-odds, at least the highest score."""
    odds, n = log_odds(scores), len(scores)
    bound = odds.mean() + t.ppf(1 - RATE, n - 1) * odds.std(ddof=1) * math.sqrt(1 + 1 / n)
    return max(1 / (1 + math.exp(-bound)), float(scores.max()))


def gaussian(scores: np.ndarray) -> float:
    """The quantile of a normal distribution of the scores."""
    return float(norm.ppf(1 - RATE, scores.mean(), scores.std(ddof=1)))


def pareto(scores: np.ndarray) -> float:
    """The quantile of a generalised Pareto distribution above the 80th percentile."""
    start = float(np.quantile(scores, 0.8))
    shape, _, scale = genpareto.fit(scores[scores > start] - start, floc=0)
    return start + float(genpareto.ppf(1 - RATE / 0.2, shape, scale=scale))


def conformal(scores: np.ndarray) -> float:
    """Split conformal prediction at 1 %, or at what the number of photographs carries."""
    n = len(scores)
    return float(np.sort(scores)[min(math.ceil((n + 1) * (1 - RATE)), n) - 1])


RULES: dict[str, Callable[[np.ndarray], float]] = {
    "log-odds t": log_odds_t,
    "highest": lambda scores: float(scores.max()),
    "gaussian": gaussian,
    "pareto": pareto,
    "conformal": conformal,
}
"""Other rules: scores of normal photographs -> a threshold, above which a photograph is anomalous."""


def balanced_accuracy(good: np.ndarray, anomalous: np.ndarray, threshold: float) -> float:
    """Mean of the shares of good and anomalous photographs that are judged right, in percent."""
    return _told(good >= threshold, anomalous >= threshold)["balanced"]


def measure(found: PhotoSet, n: int, steps: int, seed: int, nonconform: Path | None = None) -> dict[str, Any]:
    """Learns from n good photographs (0: all) and judges the test photographs: one row.

    `nonconform` is the Python that has this package.
    """
    order = np.random.default_rng([seed, n]).permutation(len(found.train))
    chosen = [found.train[i] for i in order[: n or None]]
    with tempfile.TemporaryDirectory(prefix="stlm-verdicts-") as name:
        photographs = Path(name) / "good"
        photographs.mkdir()
        for path in chosen:
            (photographs / path.name).symlink_to(path.resolve())
        with RunProgress(found.name, every=50) as observer:
            model = STLM.from_pretrained(
                finetune(
                    photographs, found.name, output=Path(name) / "model", steps=steps, seed=seed, observer=observer
                )
            )
        (good, good_verdicts), (anomalous, anomalous_verdicts) = (
            _judge(model, p) for p in (found.good, found.anomalous)
        )
        figures = evaluate(model, found.test, {}).figures
    normal = np.array(model.judging.normal_scores)
    thresholds = {"stlm_hub": model.judging.threshold, **{name: rule(normal) for name, rule in RULES.items()}}
    rejected = {name: (good >= at, anomalous >= at) for name, at in thresholds.items()}
    if nonconform is not None:
        by_nonconform = rejected_by_nonconform(nonconform, normal, np.concatenate([good, anomalous]), RATE)
        rejected["nonconform"] = (by_nonconform[: len(good)], by_nonconform[len(good) :])
    return {
        "set": found.name,
        "photographs": len(chosen),
        "steps": steps,
        "seed": seed,
        "i_auroc": 100 * float(roc_auc_score([0] * len(good) + [1] * len(anomalous), [*good, *anomalous])),
        "threshold": model.judging.threshold,
        "verdicts": {"good": _counts(good_verdicts), "anomalous": _counts(anomalous_verdicts)},
        "best": max(balanced_accuracy(good, anomalous, score) for score in [*good, *anomalous]),
        "rules": {name: _told(*kinds) for name, kinds in rejected.items()},
        "scores": {
            "good": _written(good),
            "anomalous": _written(anomalous),
            **{kind: _written(getattr(model.judging, f"{kind}_scores")) for kind in CALIBRATED},
        },
        "maps": {
            name: {key: getattr(of_map, key) for key in FIGURES if getattr(of_map, key) is not None}
            for name, of_map in figures.items()
        },
    }


def _judge(model: STLM, photographs: Sequence[Path]) -> tuple[np.ndarray, list[str]]:
    """Scores and verdicts, in order."""
    scores: list[float] = []
    verdicts: list[str] = []
    for path in photographs:
        prediction = model.predict(path)
        scores.append(prediction.score)
        verdicts.append(prediction.verdict)
    return np.array(scores), verdicts


def _told(good: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """Figures of a rule, in percent, from which photographs of each kind it rejects."""
    return {
        "balanced": 50 * float((~good).mean() + anomalous.mean()),
        "rejected": 100 * float(good.mean()),
        "missed": 100 * float((~anomalous).mean()),
    }


def _written(scores: Sequence[float] | np.ndarray) -> str:
    """Scores in one line, so that another rule can be tried on them: a list would take a line each."""
    return " ".join(f"{score:.4f}" for score in scores)


def _counts(verdicts: Sequence[str]) -> dict[str, int]:
    return {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a row for each set and number of photographs, and the means of each rule."""
    rules = min((row["rules"] for row in rows), key=len)  # those that every row has
    table = Table(title="Verdict regret, points of balanced accuracy")
    for head in ("set", "photographs", "steps", "I-AUROC", "good rejected %", "missed %", *rules):
        table.add_column(head, justify="left" if head == "set" else "right")
    for row in rows:
        own = row["rules"]["stlm_hub"]
        lost = [f"{row['best'] - row['rules'][name]['balanced']:.1f}" for name in rules]
        table.add_row(
            row["set"],
            *(str(row[name]) for name in ("photographs", "steps")),
            *(f"{value:.1f}" for value in (row["i_auroc"], own["rejected"], own["missed"])),
            *lost,
        )
    console.print(table)
    for name in rules:
        regrets = [row["best"] - row["rules"][name]["balanced"] for row in rows]
        rejected = np.mean([row["rules"][name]["rejected"] for row in rows])
        say(
            f"{name}: mean regret {np.mean(regrets):.1f}, worst {max(regrets):.1f}, good ones rejected {rejected:.1f} %"
        )


def main(
    data: Annotated[Path, typer.Option(help="Folder with the sets, see data_sets.py.")],
    output: Annotated[Path, typer.Option(help="JSON file; rows that it has are kept.")],
    name: Annotated[list[str] | None, typer.Option("--set", help="Sets to measure; default: all.")] = None,
    photographs: Annotated[list[int] | None, typer.Option(help="Numbers of good photographs; 0: all.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps of the streams; 0: the memory alone.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which photographs.")] = 0,
    nonconform: Annotated[Path | None, typer.Option(help="Python that has the package nonconform.")] = None,
) -> None:
    """Measures thresholds on every set."""
    rows = read_rows(output)
    for one in name or list(SETS):
        found = read_set(data, one)
        for n in photographs or NUMBERS:
            if n >= len(found.train):
                continue
            wanted = (one, n or len(found.train), steps, seed)
            if any((row["set"], row["photographs"], row["steps"], row["seed"]) == wanted for row in rows):
                continue
            rows.append(measure(found, n, steps, seed, nonconform))
            write_rows(output, "benchmarks/verdicts.py", rows)
    show(rows)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
