"""benchmarks/space.py: statistics, order of answers, limits, and the JSON file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="the benchmarks need psutil, which comes with the extra train")
pytest.importorskip("gradio_client", reason="the benchmarks need gradio_client, which comes with the extra space")

from rich.console import Console

from benchmarks import figures
from benchmarks.figures import Limit, all_held, command_line, growth, machine, order, slope_per_100, summary
from benchmarks.page_client import Answer, Expected
from benchmarks.page_report import endpoint_times, limits, page_times, report, show, user_facts
from benchmarks.space import write_photographs

CRACK, GOOD = Expected(Path("crack_000.png"), True, 0.9), Expected(Path("good_000.png"), False, 0.1)


def answer(user: int, sent: float, expected: Expected = CRACK, **changes: Any) -> Answer:
    """In the queue after 0.1 s, answered after 0.4 s, files there after 0.5 s."""
    facts = {
        "photograph": expected.photograph.stem,
        "is_anomalous": expected.is_anomalous,
        "score": expected.score,
        **changes,
    }
    return Answer(user, expected, sent, sent + 0.1, sent + 0.4, sent + 0.5, facts)


def overhead(page_ms: float | None) -> dict[str, Any]:
    times = {"verdict": page_ms, "uploaded": 20, "asked": 30, "judged": 90, "pictures": 400, "is_anomalous": True}
    page = {"skipped": "chromium is not installed"} if page_ms is None else page_times([times], [100])
    return {
        "photograph": "1024 x 1024 px PNG",
        "photograph_mb": 1.5,
        "bare_predict": summary([100]),
        "endpoint": endpoint_times([answer(0, 0.0)], [100], [50]),
        "page": page,
    }


def parts(
    paint_ms: float | None = 300, page_ms: float | None = 200, answers: tuple[Answer, ...] = (), last_mb: float = 510
) -> dict[str, dict[str, Any]]:
    paint: dict[str, Any] = {"skipped": "chromium is not installed"}
    if paint_ms is not None:
        paint = {"first_contentful_paint": summary([paint_ms]), "model_row_usable": summary([900])}
    return {
        "first_paint": paint,
        "overhead": overhead(page_ms),
        "users": user_facts(answers or (answer(0, 0.0), answer(1, 0.05, GOOD)), 2, 4.0),
        "memory": {**growth([0, 25, 50], [500, 505, last_mb]), "warm_up_requests": 2, "cache_mb": 12.0},
    }


def test_summary_has_median_and_95th_percentile() -> None:
    assert summary([5, 1, 2, 4, 3]) == {"n": 5, "median": 3, "p95": pytest.approx(4.8), "min": 1, "max": 5}


def test_slope_is_that_of_the_least_squares_line_and_not_of_the_outer_samples() -> None:
    assert slope_per_100([0, 50, 100], [10, 11, 12]) == pytest.approx(2)
    assert slope_per_100([0, 1, 2, 3], [0, 3, -3, 0]) == pytest.approx(-60)


def test_growth_is_last_minus_first_sample() -> None:
    facts = growth([0, 25, 50], [500, 530, 520])
    assert (facts["first_mb"], facts["last_mb"], facts["max_mb"], facts["growth_mb"]) == (500, 520, 530, 20)
    assert facts["samples"][1] == {"requests": 25, "rss_mb": 530}
    assert facts["slope_mb_per_100_requests"] == pytest.approx(40)


def test_order_counts_pairs_that_are_answered_in_the_other_order() -> None:
    assert order([1, 2, 3], [4, 5, 6]) == {"kendall_tau": 1, "inverted_pairs": 0, "overtaken_by_at_most": 0}
    assert order([3, 1, 2], [1, 3, 2]) == {"kendall_tau": -1, "inverted_pairs": 1, "overtaken_by_at_most": 2}
    one = order([1, 2, 3, 4], [1, 3, 2, 4])
    assert one["inverted_pairs"] == pytest.approx(1 / 6)
    assert one["kendall_tau"] == pytest.approx(1 - 2 / 6)
    assert order([1], [2])["kendall_tau"] is None


def test_a_limit_is_held_up_to_its_value_and_unknown_without_one() -> None:
    held, broken, unknown = Limit("a", 50, 50, "MB"), Limit("b", 50.1, 50, "MB"), Limit("c", None, 50, "MB", "no tool")
    assert (held.held, broken.held, unknown.held) == (True, False, None)
    assert all_held([held, unknown]) and not all_held([held, broken])
    assert unknown.to_dict()["skipped"] == "no tool" and "skipped" not in held.to_dict()


def test_commands_and_published_files_hold_no_absolute_path() -> None:
    words = ["--data", "/home/me/mvtec_ad", "--category", "bottle", "--models=/home/me/zoo", "--output", "/tmp/q.json"]
    expected = "python benchmarks/quality.py --data DIR --category bottle --models=DIR --output FILE"
    assert command_line("benchmarks/quality.py", words) == expected
    assert command_line("b.py", ["--output=q.json", "--methods", "stlm,padim"]).endswith(
        "--output=q.json --methods stlm,padim"
    )
    files = [path for path in Path(figures.__file__).parent.rglob("*.json") if path.stat().st_size]
    assert len(files) > 5
    for path in files:
        assert not re.search(r"(^|[\s\"=])/(home|root|work|mnt|data|tmp|Users)/", path.read_text(encoding="utf-8")), (
            path
        )


@pytest.mark.parametrize("change", [{"score": 0.5}, {"is_anomalous": False}, {"photograph": "crack_001"}])
def test_an_answer_is_right_only_with_the_verdict_of_its_own_photograph(change: dict[str, Any]) -> None:
    assert answer(0, 0.0).is_right
    assert not answer(0, 0.0, **change).is_right
    assert not Answer(0, CRACK, 0.0, error="ReadTimeout: late").is_right


def test_users_are_counted_by_failure_wrong_verdict_and_order() -> None:
    answers = [
        answer(0, 0.0),
        answer(0, 1.0, GOOD, is_anomalous=True),
        answer(1, 0.02),
        Answer(1, GOOD, 1.02, error="AppError: full"),
    ]
    facts = user_facts(answers, 2, 6.0)
    assert (facts["requests"], facts["failed"], facts["wrong"], facts["errors"]) == (4, 1, 1, ["AppError: full"])
    assert facts["requests_per_second"] == pytest.approx(0.5)
    assert facts["latency_ms"]["median"] == pytest.approx(500)
    assert facts["first_wave_ms"]["n"] == 2
    assert facts["each_user_in_order"] is True
    assert facts["misjudged_by_the_library_itself"] == 0
    assert user_facts([answer(0, 0.0), answer(0, 0.2)], 1, 1.0)["each_user_in_order"] is False
    assert (
        user_facts([answer(0, 0.0, Expected(Path("good_001.png"), True, 0.6))], 1, 1.0)[
            "misjudged_by_the_library_itself"
        ]
        == 1
    )


def test_parts_of_a_round_trip_add_up_to_it() -> None:
    facts = overhead(240.0)
    for way, whole, added in (("endpoint", 500, 400), ("page", 240, 140)):
        assert facts[way]["round_trip"]["median"] == pytest.approx(whole)
        assert facts[way]["overhead"] == pytest.approx(added)
        assert sum(facts[way]["parts"].values()) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"paint_ms": 2001}, [0]),
        ({"page_ms": 251}, [1]),
        ({"answers": (answer(0, 0.0), Answer(1, GOOD, 0.0, error="AppError: full"))}, [2]),
        ({"answers": (answer(0, 0.0), answer(1, 0.0, score=0.1))}, [2]),
        ({"last_mb": 551}, [3]),
        ({"paint_ms": None, "page_ms": None}, []),
    ],
)
def test_each_limit_depends_on_its_own_figure(change: dict[str, Any], broken: list[int]) -> None:
    measured = parts(**change)
    promises = limits(**measured)
    assert [i for i, limit in enumerate(promises) if limit.held is False] == broken
    assert report({}, measured, promises)["held"] is (not broken)


@pytest.mark.parametrize("browser", [True, False])
def test_report_is_json_with_every_measurement_and_can_be_shown(browser: bool) -> None:
    measured = parts() if browser else parts(None, None)
    result = report({"command": "python benchmarks/space.py", "machine": machine()}, measured, limits(**measured))
    read = json.loads(json.dumps(result, allow_nan=False))
    assert list(read) == [
        *("benchmark", "command", "machine", "first_paint", "overhead", "users", "memory", "limits", "held"),
    ]
    assert {"cpu", "cores", "load_average_at_start", "packages", "python"} <= set(read["machine"])
    assert len(read["machine"]["load_average_at_start"]) == 3
    assert [set(limit) - {"skipped"} for limit in read["limits"]] == [{"name", "value", "limit", "unit", "held"}] * 4
    console = Console(record=True, width=160)
    show(read, console)
    shown = console.export_text()
    assert shown.count("held") == (4 if browser else 2) and "not held" not in shown
    assert shown.count("not measured: chromium is not installed") == (0 if browser else 2)


def test_photographs_are_all_different_and_alternate(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the sample photographs come with scikit-image")
    paths = write_photographs(tmp_path / "made", 64, 2, 2)
    assert [path.name for path in paths] == ["crack_000.png", "good_000.png", "crack_001.png", "good_001.png"]
    assert len({path.read_bytes() for path in paths}) == 4
