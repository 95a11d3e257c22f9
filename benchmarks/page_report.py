"""Measurements of the page -> plain data, limits and tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .figures import Limit, all_held, order, summary
from .page_client import Answer

FIRST_PAINT_MS, OVERHEAD_MS, GROWTH_MB = 2000, 150, 50


def endpoint_times(answers: Sequence[Answer], bare: Sequence[float], drawn: Sequence[float]) -> dict[str, Any]:
    """Round trip of the endpoint, what it adds to a bare `STLM.predict`, and how the time is spent, all in ms.

    Args:
        answers: one request for each repetition.
        bare: ms of `STLM.predict` on the same photographs.
        drawn: ms of drawing their panels.
    """
    whole = summary([answer.milliseconds for answer in answers])
    waiting = _median([1000 * (a.answered - a.queued) for a in answers])
    return {
        "round_trip": whole,
        "overhead": whole["median"] - _median(bare),
        "parts": {
            "client, upload and joining the queue": _median([1000 * (a.queued - a.sent) for a in answers]),
            "bare predict": _median(bare),
            "drawing the panel": _median(drawn),
            "queue, mask, PNG, answer": waiting - _median(bare) - _median(drawn),
            "fetching panel and mask": _median([1000 * (a.done - a.answered) for a in answers]),
        },
    }


def page_times(shown: Sequence[dict[str, Any]], bare: Sequence[float]) -> dict[str, Any]:
    """Round trip in the browser, what it adds to a bare `STLM.predict`, and how the time is spent, all in ms.

    Args:
        shown: what `page_browser.judge_on_page` measured, one for each repetition.
        bare: ms of `STLM.predict` on the same photographs.
    """
    whole = summary([times["verdict"] for times in shown])
    return {
        "round_trip": whole,
        "overhead": whole["median"] - _median(bare),
        "parts": {
            "upload": _median([times["uploaded"] for times in shown]),
            "from upload to request": _median([times["asked"] - times["uploaded"] for times in shown]),
            "running the model, as the page states it": _median([times["judged"] for times in shown]),
            "queue, decoding, drawing, answer": _median([t["verdict"] - t["asked"] - t["judged"] for t in shown]),
        },
        "until_pictures_are_there": _median([times["pictures"] for times in shown]),
    }


def user_facts(answers: Sequence[Answer], users: int, seconds: float) -> dict[str, Any]:
    """Latency, throughput, failures and order of the answers to many users.

    Times are taken by the users' programs, so requests that reach the queue within a few ms may seem to change places.

    Args:
        answers: one for each request, each user's in the order of sending.
        users: number of users.
        seconds: duration of the whole measurement.

    Returns:
        Latency in ms and order, for all requests and for the first request of each user ("first wave"); throughput in
        requests per second; counts of failed and wrong answers.
    """
    good = [answer for answer in answers if not answer.error]
    first = [a for a in {answer.user: answer for answer in reversed(answers)}.values() if not a.error]
    sent = {answer.expected for answer in answers}
    per_user = [[a for a in good if a.user == user] for user in range(users)]
    return {
        "users": users,
        "requests": len(answers),
        "failed": len(answers) - len(good),
        "wrong": sum(not answer.is_right for answer in good),
        "errors": sorted({answer.error for answer in answers if answer.error})[:5],
        "different_photographs": len(sent),
        "misjudged_by_the_library_itself": sum(e.is_anomalous == e.photograph.name.startswith("good") for e in sent),
        "latency_ms": summary([answer.milliseconds for answer in good]) if good else None,
        "first_wave_ms": summary([answer.milliseconds for answer in first]) if first else None,
        "requests_per_second": len(good) / seconds,
        "each_user_in_order": all(a.answered <= b.queued for own in per_user for a, b in pairwise(own)),
        "order": order([a.queued for a in good], [a.answered for a in good]),
        "order_in_first_wave": order([a.queued for a in first], [a.answered for a in first]),
    }


def limits(
    first_paint: dict[str, Any], overhead: dict[str, Any], users: dict[str, Any], memory: dict[str, Any]
) -> list[Limit]:
    """The limits that the measurements must keep."""
    page = overhead["page"]
    return [
        Limit(
            "first contentful paint, warm server",
            first_paint.get("first_contentful_paint", {}).get("median"),
            FIRST_PAINT_MS,
            "ms",
            first_paint.get("skipped", ""),
        ),
        Limit("what the page adds to a bare predict", page.get("overhead"), OVERHEAD_MS, "ms", page.get("skipped", "")),
        Limit(f"failed or wrong, {users['users']} users at once", users["failed"] + users["wrong"], 0, "requests"),
        Limit(f"growth of memory over {users['requests']} requests", memory["growth_mb"], GROWTH_MB, "MB"),
    ]


def report(facts: dict[str, Any], parts: dict[str, dict[str, Any]], limits: Sequence[Limit]) -> dict[str, Any]:
    """The content of the JSON file.

    Args:
        facts: command, date, machine and settings of the run.
        parts: the four measurements, see `limits`.
        limits: what `limits` returned.
    """
    return {
        "benchmark": "space",
        **facts,
        **parts,
        "limits": [limit.to_dict() for limit in limits],
        "held": all_held(limits),
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Prints the figures and the limits as tables."""
    table = Table("Measured", "Median", "p95", "Max", "Note", title="The page of the Space")
    paint, over, users, memory = (result[key] for key in ("first_paint", "overhead", "users", "memory"))
    for name in ("first_contentful_paint", "model_row_usable"):
        _row(table, name.replace("_", " "), paint.get(name), paint.get("skipped", "ms after the address was opened"))
    _row(table, "bare predict", over["bare_predict"], f"ms, {over['photograph']}")
    for name in ("endpoint", "page"):
        way = over[name]
        _row(table, f"{name}, round trip", way.get("round_trip"), way.get("skipped", "ms"))
        if "parts" in way:
            table.add_row(f"{name}, overhead", f"{way['overhead']:.0f}", "", "", "ms, difference of medians")
            for part, milliseconds in way["parts"].items():
                table.add_row(f"  {part}", f"{milliseconds:.0f}", "", "", "ms")
    _row(table, f"{users['users']} users", users["latency_ms"], f"ms; {users['requests_per_second']:.1f} requests/s")
    _row(table, "  first wave", users["first_wave_ms"], "ms")
    for name in ("order", "order_in_first_wave"):
        if users[name]["kendall_tau"] is not None:
            note = f"{100 * users[name]['inverted_pairs']:.1f} % of pairs the other way round"
            table.add_row(f"  {name.replace('_', ' ')}, tau", f"{users[name]['kendall_tau']:.3f}", "", "", note)
    note = f"MB at first; last {memory['last_mb']:.0f}; {memory['slope_mb_per_100_requests']:+.1f} MB per 100 requests"
    table.add_row("memory", f"{memory['first_mb']:.0f}", "", f"{memory['max_mb']:.0f}", note)
    table.add_row("cache", f"{memory['cache_mb']:.0f}", "", "", "MB on disk at the end")
    console.print(table)
    verdicts = Table("Limit", "Value", "At most", "")
    for limit in result["limits"]:
        word: dict[bool | None, Text | str] = {
            True: Text("held", "green"),
            False: Text("not held", "red"),
            None: f"not measured: {limit.get('skipped')}",
        }
        value = "" if limit["value"] is None else f"{limit['value']:.0f}"
        verdicts.add_row(limit["name"], value, f"{limit['limit']} {limit['unit']}", word[limit["held"]])
    console.print(verdicts)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _row(table: Table, name: str, figures: dict[str, float] | None, note: str) -> None:
    shown = [f"{figures[key]:.0f}" for key in ("median", "p95", "max")] if figures else [""] * 3
    table.add_row(name, *shown, note)
