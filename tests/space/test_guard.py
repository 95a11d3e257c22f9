"""Which requests reach Gradio: those of the page's browsers and endpoints."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import pytest
from page_server import Page

from page.guard import is_answered

pytestmark = pytest.mark.timeout(300)

HANDLERS = (
    *("inspect", "inspect_1", "judge_again", "prepare_files", "judge_all", "train", "calibrate", "describe", "offer"),
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


def test_a_line_end_hides_nothing() -> None:
    assert is_answered("POST", "/gradio_api/run/predict")
    for path in ("/gradio_api/run/predict\n", "/gradio_api/run/predict/\ninspect", "/\n/monitoring", "/config\n"):
        assert not is_answered("POST", path) and not is_answered("GET", path)
