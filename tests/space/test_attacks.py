"""Requests that no browser sends, to the page that is being served."""

from __future__ import annotations

import json
import struct
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from hub_server import HubServer
from PIL import Image

from benchmarks.page_process import Page
from stlm_hub.model_folder import zoo
from stlm_hub.model_folder.names import DECIDING
from stlm_page.bodies import MAX_EVENT_BYTES, MAX_MCP_BYTES

pytestmark = pytest.mark.timeout(300)


def file_data(path: Path | str, meta: bool) -> dict[str, Any]:
    """A file that claims to be uploaded. Gradio checks only those with `meta`."""
    data: dict[str, Any] = {"path": str(path), "orig_name": "part.png"}
    return {**data, "meta": {"_type": "gradio.FileData"}} if meta else data


def upload(page: Page, name: str, data: bytes) -> dict[str, Any]:
    """Uploads a file as a browser does; the file data that an event is then given."""
    return {**file_data(page.upload(name, data), meta=True), "orig_name": name}


@pytest.mark.parametrize("meta", [False, True])
@pytest.mark.parametrize(
    ("handler", "data"),
    [
        ("inspect", ["FILE", "sample-brick", 0.5, 0.5, None, False, ""]),
        ("inspect_1", ["FILE", "sample-brick", 0.5, 0.5, None, False, ""]),
        ("judge_all", [["FILE"], "sample-brick"]),
        ("train", [["FILE"], "my-part", 1, "Number of steps", 1, 1, 256, "any way", "everywhere", None]),
        ("choose_1", [["FILE"], "only at what I mark", None]),
        ("judge_without_model", ["FILE", "one to five photographs of good parts", ["FILE"], ""]),
        ("predict", ["FILE", "sample-brick", None]),
    ],
)
def test_no_handler_reads_a_file_that_was_not_uploaded(
    page: Page, tmp_path: Path, handler: str, data: list[Any], meta: bool
) -> None:
    picture = tmp_path / "secret.png"
    Image.effect_noise((64, 64), 30).save(picture)
    answers = []
    for path in (picture, tmp_path / "missing.png", "/etc/passwd", "/dev/zero"):
        file = file_data(path, meta)
        sent = [file if value == "FILE" else [file] if value == ["FILE"] else value for value in data]
        answer = page.event(handler, sent)
        assert not answer["success"], answer
        answers.append({key: answer["output"].get(key) for key in ("error", "title", "visible")})
    assert answers == [answers[0]] * 4  # nothing tells which of them exist
    if handler.startswith("inspect") and not meta:  # what Gradio itself refuses, it refuses without a word
        assert answers[0]["error"] == "part.png is not among the files that are kept here; add it again."


@pytest.mark.parametrize("route", ["run", "api"])
def test_a_photograph_is_not_judged_past_the_queue(page: Page, photographs: Path, route: str) -> None:
    client = Client(page.url, verbose=False, download_files=False)
    kept = client.predict(handle_file(photographs / "crack.png"), api_name="/predict")[1]
    number = [each["api_name"] for each in page.get("/config")["dependencies"]].index("inspect")
    file = {"path": kept if isinstance(kept, str) else kept["path"], "meta": {"_type": "gradio.FileData"}}
    for body in (
        {"data": [file, "sample-brick", None]},
        {"data": [file, "sample-brick", 0.5, 0.5, None, False, ""], "fn_index": number, "session_hash": "x"},
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            page.post(f"/gradio_api/{route}/predict", body)
        assert refused.value.code == 404


@pytest.fixture(scope="module")
def brick() -> dict[str, bytes]:
    """The files of a model that works, to be changed into a hostile one."""
    folder = zoo.checkout_folder("sample-brick")
    assert folder is not None
    names = (*DECIDING, "scores.png")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


@pytest.mark.parametrize("piece", ["![a](", "![a](scores.png)\n"])
def test_a_hostile_card_neither_keeps_the_page_busy_nor_fills_its_memory(
    page: Page, hub: HubServer, brick: dict[str, bytes], piece: str
) -> None:
    name = f"someone/card-{len(piece)}"
    hub.put(name, {**brick, "README.md": (piece * 700_000)[:3_500_000].encode()})
    started = time.monotonic()
    answer = page.event("describe", [name], timeout=120)
    assert answer["success"] and len(json.dumps(answer)) < 2_000_000
    assert "only its first 40,000 characters" in answer["output"]["data"][1]
    assert time.monotonic() - started < 60


def test_a_photograph_of_thousands_of_scans_keeps_nobody_waiting(page: Page) -> None:
    def segment(code: int, data: bytes) -> bytes:
        return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data

    jpeg = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    jpeg += segment(0xC2, struct.pack(">BHHB", 8, 5000, 8000, 1) + b"\1\x11\0")
    jpeg += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    jpeg += (segment(0xDA, b"\1\1\0\1\x3f\0") + bytes(38)) * 5000 + b"\xff\xd9"  # 40 megapixels, 240 kB
    started = time.monotonic()
    answer = page.event("inspect", [upload(page, "part.jpg", jpeg), "sample-brick", 0.5, 0.5, None, False, ""])
    assert "part.jpg is a JPEG of more than 100 scans" in answer["output"]["error"]
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("handler", "data"),
    [
        ("inspect", ["FILE", "sample-brick", 0.5, 0.5, None, False, ""]),
        ("judge_all", [["FILE"], "sample-brick"]),
        ("predict", ["FILE", "sample-brick", None]),
        ("describe", ["FILE"]),  # of any component: the list of models takes text
        ("describe", [{"deep": [["FILE"]]}]),
    ],
)
def test_no_event_makes_the_page_fetch_an_address(page: Page, hub: HubServer, handler: str, data: list[Any]) -> None:
    """Gradio reads into memory whatever a public address leads to, however large."""
    before = len(hub.requests)
    text = json.dumps(data).replace('"FILE"', json.dumps(file_data(f"{hub.url}/big.png", meta=True)))
    with pytest.raises(urllib.error.HTTPError) as refused:
        page.event(handler, json.loads(text))
    assert refused.value.code == 422 and b"Addresses are not fetched here" in refused.value.read()
    for route in ("call/predict", "call/v2/predict", "run/predict"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            page.post(f"/gradio_api/{route}", {"data": json.loads(text)})
        assert refused.value.code == 422
    assert len(hub.requests) == before


def test_a_client_is_told_what_to_do_instead(page: Page) -> None:
    client = Client(page.url, verbose=False, download_files=False)
    with pytest.raises(Exception, match="Addresses are not fetched here: upload the photograph"):
        client.predict(
            {"path": "https://example.com/part.png", "meta": {"_type": "gradio.FileData"}}, api_name="/predict"
        )


@pytest.mark.parametrize("path", ["queue/join", "call/predict", "cancel", "mcp/"])
def test_a_request_is_not_read_without_end(page: Page, path: str) -> None:
    limit = MAX_MCP_BYTES if path == "mcp/" else MAX_EVENT_BYTES
    with pytest.raises(urllib.error.HTTPError) as refused:
        page.post(f"/gradio_api/{path}", {"data": ["x" * limit]})
    assert refused.value.code == 413 and b"too large" in refused.value.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        deep = b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{page.url}/gradio_api/queue/join", deep, headers), timeout=60)
    assert refused.value.code == 422
