"""Measures the page of the Space on this machine: first paint, overhead of the page, many users at once, memory.

    python benchmarks/space.py --users 20 --requests 500 --output benchmarks/space.json

The page is started as `make demo` starts it. No request leaves the machine. The exit code is 1 if a limit is broken.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import typer
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import page_browser  # noqa: E402
from benchmarks.figures import command_line, growth, machine, summary  # noqa: E402
from benchmarks.page_client import Answer, Expected, User, users_at_once  # noqa: E402
from benchmarks.page_process import Page, serve_checkout  # noqa: E402
from benchmarks.page_report import endpoint_times, limits, page_times, report, show, user_facts  # noqa: E402
from stlm_hub.cli.console import console, exit_on_error, say  # noqa: E402
from stlm_hub.samples.parts import make_defective, make_normal  # noqa: E402
from stlm_hub.stlm import STLM  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab

MODEL, PART = "sample-brick", "brick"
ONE_SIZE, MANY_SIZE = 1024, 512  # px, side of the photographs of a single user and of many users
DIFFERENT = 40  # photographs that many users send in turn; every other one has a crack
SAMPLE_EVERY = 25  # requests between two samples of the memory
UNCOUNTED = 2  # first repetitions, which are not counted


class Server:
    """The process that serves the page."""

    def __init__(self, page: Page) -> None:
        self.url = page.url
        self._process = psutil.Process(page.pid)

    def settle(self, seconds: float = 30) -> None:
        """Waits until the server has used less than a tenth of a core for 0.2 s, but at most `seconds`."""
        deadline = time.monotonic() + seconds
        used = self._cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.2)
            before, used = used, self._cpu_seconds()
            if used - before < 0.02:
                return

    def megabytes(self) -> float:
        """Resident memory of the process and all its child processes, in MB (2^20 bytes)."""
        return sum(p.memory_info().rss for p in [self._process, *self._process.children(recursive=True)]) / 2**20

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


def write_photographs(folder: Path, size: int, n_crack: int, n_good: int) -> list[Path]:
    """Writes crack_000.png, good_000.png, crack_001.png, ..., all different. Returns their paths in this order."""
    from skimage import data

    brick = np.asarray(data.brick())
    folder.mkdir(parents=True)
    paths = []
    for index in range(max(n_crack, n_good)):
        if index < n_crack:
            paths.append(folder / f"crack_{index:03d}.png")
            Image.fromarray(make_defective(brick, PART, "crack", index, size=size, seed=1)[1]).save(paths[-1])
        if index < n_good:
            paths.append(folder / f"good_{index:03d}.png")
            Image.fromarray(make_normal(brick, PART, "test", index, size=size, seed=1)).save(paths[-1])
    return paths


def measure_overhead(server: Server, tab: Tab | None, model: STLM, photographs: Sequence[Path]) -> dict[str, Any]:
    """Measures what the page adds to `STLM.predict(bytes)`: each photograph is judged bare, by endpoint, on the page.

    Args:
        server: the page's process. It is idle before each request.
        tab: the page in a browser; None where there is no browser.
        model: the model that the page serves.
        photographs: one for each repetition; the first `UNCOUNTED` are not counted.

    Returns:
        Milliseconds of each way and of its parts.

    Raises:
        RuntimeError: endpoint or page disagree with the library.
    """
    user = User(server.url)
    bare: list[float] = []
    drawn: list[float] = []
    asked: list[Answer] = []
    shown: list[dict[str, Any]] = []
    for path in photographs:
        content = path.read_bytes()
        server.settle()
        started = time.perf_counter()
        prediction = model.predict(content)
        bare.append(1000 * (time.perf_counter() - started))
        started = time.perf_counter()
        prediction.panel(path.stem)
        drawn.append(1000 * (time.perf_counter() - started))
        server.settle()
        asked.append(user.ask(Expected(path, prediction.is_anomalous, prediction.score), MODEL))
        if not asked[-1].is_right:
            raise RuntimeError(f"The endpoint fails or differs from the library: {asked[-1]}")
        if tab is not None:
            shown.append(page_browser.judge_on_page(tab, path, server.settle))
            if shown[-1]["is_anomalous"] != prediction.is_anomalous:
                raise RuntimeError(f"The page differs from the library: {shown[-1]}")
    user.close()
    for values in (bare, drawn, asked, shown):
        del values[:UNCOUNTED]
    return {
        "photograph": f"{ONE_SIZE} x {ONE_SIZE} px PNG",
        "photograph_mb": float(np.mean([path.stat().st_size for path in photographs])) / 1e6,
        "model": MODEL,
        "bare_predict": summary(bare),
        "endpoint": endpoint_times(asked, bare, drawn),
        "page": page_times(shown, bare) if shown else {"skipped": page_browser.missing()},
    }


def measure_users(
    server: Server, cache: Path, photographs: Sequence[Expected], users: int, requests: int, warm_up: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sends the requests of many users at once and samples the server's memory meanwhile.

    Args:
        server: the page's process.
        cache: folder of the page's cache.
        photographs: sent in turn.
        users: number of users.
        requests: number of requests of all users together.
        warm_up: number of requests before the first sample of the memory.

    Returns:
        Latency, throughput, failures and order, see `user_facts`; growth of the memory in MB, see `growth`, with the
        size of the cache.
    """
    users_at_once(server.url, MODEL, photographs, users, max(warm_up, users))
    server.settle()
    samples = [(0, server.megabytes())]

    def sample(answers: int) -> None:
        if answers % SAMPLE_EVERY == 0 and answers < requests:
            samples.append((answers, server.megabytes()))

    started = time.perf_counter()
    answers = users_at_once(server.url, MODEL, photographs, users, requests, sample)
    seconds = time.perf_counter() - started
    server.settle()
    samples.append((requests, server.megabytes()))
    memory = growth(*(list(column) for column in zip(*samples, strict=True)))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 2**20
    crowd = {"photograph": f"{MANY_SIZE} x {MANY_SIZE} px PNG", **user_facts(answers, users, seconds)}
    return crowd, {**memory, "warm_up_requests": max(warm_up, users), "cache_mb": size}


def main(
    users: Annotated[int, typer.Option(min=1, max=60, help="Number of users who ask at once.")] = 20,
    requests: Annotated[int, typer.Option(min=2, help="Number of requests of all users together.")] = 500,
    repetitions: Annotated[int, typer.Option(min=1, help="Number of single round trips that are counted.")] = 15,
    visits: Annotated[int, typer.Option(min=1, help="Number of visits to the page, each with an empty cache.")] = 5,
    warm_up: Annotated[int, typer.Option(min=0, help="Number of requests before the first sample of the memory.")] = 50,
    output: Annotated[Path, typer.Option(dir_okay=False, help="JSON file to write.")] = Path("benchmarks/space.json"),
) -> None:
    """Measures the page of the Space on this machine."""
    facts: dict[str, Any] = {
        "command": command_line("benchmarks/space.py", sys.argv[1:]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": {"repetitions": repetitions, "visits": visits, "uncounted_repetitions": UNCOUNTED},
    }
    with tempfile.TemporaryDirectory(prefix="stlm-page-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        say("Making photographs")
        single = write_photographs(folder / "one", ONE_SIZE, repetitions + UNCOUNTED, 0)
        model = STLM.from_pretrained(MODEL)
        many = [
            Expected(path, prediction.is_anomalous, prediction.score)
            for path in write_photographs(folder / "many", MANY_SIZE, DIFFERENT // 2, DIFFERENT // 2)
            for prediction in [model.predict(path.read_bytes())]
        ]
        say("Starting the page")
        environment = {"STLM_SPACE_MODEL": MODEL, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
        server = Server(stack.enter_context(serve_checkout(folder, **environment)))
        paint: dict[str, Any] = {"skipped": page_browser.missing()}
        with ExitStack() as tabs:
            tab = None
            if not paint["skipped"]:
                browser = tabs.enter_context(page_browser.launched())
                facts["machine"]["chromium"] = browser.version
                say("First paint")
                visited = page_browser.first_paint(browser, server.url, visits, server.settle)
                paint = {name: summary(values) for name, values in visited.items()}
                tab = tabs.enter_context(page_browser.opened(browser, server.url))
            say("Overhead of the app")
            overhead = measure_overhead(server, tab, model, single)
        say(f"{users} users at once")
        crowd, memory = measure_users(server, folder / "cache", many, users, requests, warm_up)
    parts = {"first_paint": paint, "overhead": overhead, "users": crowd, "memory": memory}
    result = report(facts, parts, limits(**parts))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    show(result, console)
    say(f"Written: {output}")
    raise typer.Exit(0 if result["held"] else 1)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
