"""Which requests reach Gradio: those of the page's browsers and endpoints."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

import app
from benchmarks.page_process import Page
from stlm_page.guard import Guard, hosts_of, is_answered

pytestmark = pytest.mark.timeout(300)

HANDLERS = (
    *(
        "inspect",
        "inspect_1",
        "judge_again",
        "move_threshold",
        "prepare_files",
        "judge_all",
        "train",
        "calibrate",
        "describe",
        "offer",
    ),
    *("push_to_hub", "choose", "ask", "no_verdict"),
)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("route", ["run", "api", "call", "call/v2"])
@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_of_the_page_do_not_answer_by_name(page: Page, name: str, route: str, slash: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        page.post(f"/gradio_api/{route}/{name}{slash}", {"data": []})
    assert refused.value.code == 404
    assert json.loads(refused.value.read())["detail"].startswith("There is nothing here")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=http://127.0.0.1/"),  # a proxy
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),  # writes a session to the disk
        ("POST", "/gradio_api/process_recording"),  # runs ffmpeg
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/run-history/records"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/custom_component/0/client/component/index.js"),
        ("GET", "/gradio_api/stream/x/y/0/playlist.m3u8"),
        ("POST", "/gradio_api/stream/x"),
        ("GET", "/gradio_api/dev/reload"),
        ("POST", "/login"),
        ("GET", "/docs"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),  # what visitors ask for, how often and how long it takes
        ("GET", "/monitoring/x"),
        ("PUT", "/gradio_api/upload"),
        ("OPTIONS", "/gradio_api/upload"),
        ("POST", "/gradio_api//run/predict"),
        ("POST", "//gradio_api/run/predict"),
        ("POST", "/gradio_api/call/predict/../inspect"),
        ("POST", "/gradio_api/call/%69nspect"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(page: Page, method: str, path: str) -> None:
    request = urllib.request.Request(page.url + path, b"{}" if method in ("POST", "PUT") else None, method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 404
    assert json.loads(refused.value.read())["detail"].startswith("There is nothing here")


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/info"])
def test_what_a_browser_asks_for_is_there(page: Page, path: str) -> None:
    with urllib.request.urlopen(page.url + path, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/", "/theme.css", "/gradio_api/info", "/gradio_api/mcp/"])
def test_a_browser_is_told_to_ask_no_other_server(page: Page, path: str) -> None:
    try:
        headers = urllib.request.urlopen(page.url + path, timeout=30).headers
    except urllib.error.HTTPError as error:  # MCP wants another kind of request
        headers = error.headers
    policy = headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and "default-src 'self'" in policy
    for rule in policy.split(";"):
        assert not re.search(r"http|\*|//", rule), rule


def asked_as(page: Page, **headers: str) -> tuple[int, bytes]:
    """Status and body of the page's answer to a request with these headers."""
    request = urllib.request.Request(f"{page.url}/config", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},  # whose name was made to lead to 127.0.0.1
        {"Host": "attacker.example:7860"},
        {"Host": "localhost.attacker.example"},
        {"Host": "127.0.0.1.nip.io"},
        {"Host": "attacker@localhost@attacker.example"},
        {"Host": "0.0.0.0"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_on_this_machine_alone_answers_to_no_other_name(page: Page, headers: dict[str, str]) -> None:
    status, body = asked_as(page, **headers)
    assert status in (400, 403) and b"dependencies" not in body
    if status == 403:
        assert json.loads(body)["detail"].startswith("This page answers to localhost only; set STLM_SPACE_HOSTS")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "[::1]"])
def test_it_answers_to_each_name_of_this_machine(page: Page, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        assert asked_as(page, **headers)[0] == 200


def test_gradio_itself_is_told_not_to_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: told.update(options))
    monkeypatch.setattr(app, "MODELS", SimpleNamespace(get=lambda name: None))
    app.main()
    assert told["enable_monitoring"] is False and not told["run_history"] and not told.get("share")
    assert [each.cls for each in told["app_kwargs"]["middleware"]] == [Guard]


def test_names_can_be_added_and_any_leads_to_a_page_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hosts_of("0.0.0.0") is None and hosts_of("192.168.1.7") is None
    assert hosts_of("127.0.0.1") == hosts_of("localhost") == {"localhost", "127.0.0.1", "::1"}
    monkeypatch.setenv("STLM_SPACE_HOSTS", "Parts.example, line-2.example,")
    assert hosts_of("127.0.0.1") == {"localhost", "127.0.0.1", "::1", "parts.example", "line-2.example"}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("there")(scope, receive, send)

    for server_name, expected in (("127.0.0.1", 403), ("0.0.0.0", 200)):
        client = TestClient(Guard(answer, hosts_of(server_name)))
        assert client.get("/config", headers={"Host": "parts.example:443"}).status_code == 200
        assert client.get("/config", headers={"Host": "other.example"}).status_code == expected


def test_a_line_end_hides_nothing() -> None:
    assert is_answered("POST", "/gradio_api/run/predict")
    for path in ("/gradio_api/run/predict\n", "/gradio_api/run/predict/\ninspect", "/\n/monitoring", "/config\n"):
        assert not is_answered("POST", path) and not is_answered("GET", path)
