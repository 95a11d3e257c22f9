"""Damaged pictures by every way into the product: `predict`, `stlm predict`, the page's HTTP API, a batch of a zip.

What the decoder does with them is in test_pictures.py. Here a photograph gets a verdict or a sentence, and nothing ends
the work for the others. `make fuzz` takes the page, too, whose start alone takes half a minute.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.extremes import extremes
from fuzz.mutations import mutated
from fuzz.outcome import MAX_MORE_MEMORY, MAX_SECONDS, judged, peak_memory
from fuzz.seeds import seed_pictures
from fuzz.test_pictures import COUNT, MADE_TEST
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from benchmarks.page_process import Page, serve_checkout
from stlm_hub.cli.main import main
from stlm_hub.errors import ImageError
from stlm_hub.predict.images import SUFFIXES
from stlm_hub.predict.prediction import Unusable
from stlm_hub.stlm import STLM

PICTURES = seed_pictures()
EXTREMES = extremes()
by_the_page = pytest.mark.skipif(MADE_TEST, reason="make fuzz takes the page, too")


def damaged(number: int) -> tuple[str, bytes]:
    """A damaged file under a wrong ending, as often as not."""
    name, data = mutated(PICTURES, number)
    own = Path(name).suffix
    return f"{number}{own if own in SUFFIXES and number % 2 else SUFFIXES[number % len(SUFFIXES)]}", data


def write(folder: Path, numbers: range) -> list[Path]:
    paths = [folder / damaged(number)[0] for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        path.write_bytes(damaged(number)[1])
    return paths


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_are_read_or_refused_as_they_should(name: str) -> None:
    readable, make = EXTREMES[name]
    data, before = make(), peak_memory()
    assert judged(data, name) == readable
    assert peak_memory() - before < MAX_MORE_MEMORY


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("toy_streams")
def test_predict_gives_verdicts_or_sentences(toy_model: STLM, tmp_path: Path) -> None:
    numbers, before, verdicts = range(10**6, 10**6 + COUNT // 4), peak_memory(), 0
    for number in numbers:
        started = time.monotonic()
        try:
            verdicts += toy_model.predict(damaged(number)[1]).verdict in ("pass", "review", "reject", "unfamiliar")
        except ImageError as error:
            assert str(error).endswith(".")
        assert time.monotonic() - started < MAX_SECONDS
    many = range(2 * 10**6, 2 * 10**6 + COUNT // 4)
    found = list(toy_model.predict_many(write(tmp_path, many)))
    refused = sum(isinstance(one, Unusable) for one in found)
    assert len(found) == len(many) and 0 < refused < len(many) and 0 < verdicts < len(numbers)
    assert peak_memory() - before < MAX_MORE_MEMORY
    print(
        f"predict: {len(numbers)} damaged pictures, {verdicts} verdicts; predict_many: {len(many)}, {refused} refused."
    )


@pytest.mark.usefixtures("toy_streams")
def test_the_command_line_says_something_of_every_file(
    saved_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write(tmp_path, range(3 * 10**6, 3 * 10**6 + COUNT // 4))
    monkeypatch.setattr(sys, "argv", ["stlm", "predict", str(tmp_path), "-m", str(saved_toy), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    told = [json.loads(line) for line in out.splitlines()]
    assert sorted(one["path"] for one in told) == sorted(map(str, paths)) and "Traceback" not in err
    verdicts = sum("verdict" in one for one in told)
    assert ended.value.code == 1 and 0 < verdicts < len(told)
    assert all(one["error"].endswith(".") for one in told if "verdict" not in one)
    with capsys.disabled():
        print(f"stlm predict: {len(told)} damaged pictures, {verdicts} verdicts.")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    with serve_checkout(folder, HF_HOME=str(folder / "hf"), HF_HUB_OFFLINE="1") as served:
        yield served


@by_the_page
@pytest.mark.timeout(900)
def test_the_pages_api_gives_verdicts_or_sentences(page: Page, tmp_path: Path) -> None:
    client = Client(page.url, verbose=False, download_files=False)
    (tmp_path / "warm.png").write_bytes(PICTURES["rgb.png"])
    client.predict(handle_file(tmp_path / "warm.png"), api_name="/predict")
    files = write(tmp_path, range(4 * 10**6, 4 * 10**6 + COUNT // 100))
    for name in EXTREMES:
        files.append(tmp_path / f"extreme {name}")
        files[-1].write_bytes(EXTREMES[name][1]())
    before, verdicts = _peak_memory_of(page.pid), 0
    for path in files:
        started = time.monotonic()
        try:
            verdicts += "verdict" in client.predict(handle_file(path), api_name="/predict")[0]
        except AppError as error:
            assert str(error).endswith("."), f"{path.name}: {error}"
        assert time.monotonic() - started < 2 * MAX_SECONDS, path.name  # upload and drawing are in it
    assert 0 < verdicts < len(files) and _peak_memory_of(page.pid) - before < MAX_MORE_MEMORY
    assert "Traceback" not in page.log.read_text()
    print(f"/predict of the page: {len(files)} pictures, {verdicts} verdicts.")


@by_the_page
@pytest.mark.timeout(900)
def test_a_batch_has_a_row_for_every_file_of_its_zip(page: Page) -> None:
    numbers = range(5 * 10**6, 5 * 10**6 + min(400, COUNT // 100))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in map(damaged, numbers):
            archive.writestr(name, data)
        archive.writestr("bomb.png", bytes(10**9))
    sent = {"path": page.upload("many.zip", stream.getvalue()), "orig_name": "many.zip"}
    message = page.event("judge_all", [[{**sent, "meta": {"_type": "gradio.FileData"}}], "sample-brick"], timeout=800)
    assert message["success"], message
    rows = message["output"]["data"][2]["value"]["data"]
    unusable = [row for row in rows if row[1] == "unusable"]
    assert len(rows) == len(numbers) + 1 and 0 < len(unusable) < len(rows)
    assert all(row[5].endswith(".") for row in unusable) and "bomb.png" in {row[0] for row in unusable}
    assert "Traceback" not in page.log.read_text()
    print(f"a batch of the page: {len(rows)} files in a zip, {len(unusable)} unusable.")


def _peak_memory_of(pid: int) -> int:
    """Most memory that a process ever held, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
