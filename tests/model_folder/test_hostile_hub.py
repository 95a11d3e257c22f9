"""A Hub that is busy, silent, cut off halfway, or not the Hub at all."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_client import NETWORK_SECONDS, Client
from hub_server import TOKEN, HubServer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

REPO = "org/stlm-busy"


@pytest.fixture(autouse=True)
def as_ever(hub: HubServer) -> Iterator[None]:
    yield
    hub.instead = None


@contextmanager
def answering(hub: HubServer, instead: Callable[[Request], Awaitable[Response | None]]) -> Iterator[None]:
    hub.instead = instead
    try:
        yield
    finally:
        hub.instead = None


def statuses(*answers: int, part: str) -> Callable[[Request], Awaitable[Response | None]]:
    """These statuses in turn, the last one for ever; 0 is the true answer. Of requests with `part` in their line."""
    left = list(answers)

    async def instead(request: Request) -> Response | None:
        if part not in f"{request.method} {request.url.path}":
            return None
        status = left.pop(0) if len(left) > 1 else left[0]
        return Response(status_code=status) if status else None

    return instead


# ---------------------------------------------------------------- busy or silent


@pytest.mark.parametrize("part", ["GET /api/models", "GET /org/stlm-again"])
def test_a_busy_hub_is_asked_again(
    part: str, hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    repo = f"org/stlm-again-{'question' if 'api' in part else 'download'}"
    hub.put(repo, files)
    started = time.monotonic()
    with answering(hub, statuses(500, 429 if "api" in part else 503, 0, part=part)):
        assert client("load", repo) == wanted
    assert 2 < time.monotonic() - started < NETWORK_SECONDS  # it was given time


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_is_in_the_cache_serves_while_the_hub_is_busy(
    status: int, hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    hub.put(REPO, files)
    assert client("load", REPO) == wanted
    with answering(hub, statuses(status, part="/org/stlm-busy")):
        assert client("load", REPO) == wanted
        sentence = client.refuses("load", REPO, revision="v-none")
    assert "asked too often" in sentence or f"answers with HTTP {status}" in sentence


def test_a_download_that_is_cut_off_leaves_the_model_of_before(
    hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    repo = "org/stlm-cut-download"
    hub.put(repo, files)
    assert client("load", repo) == wanted
    other = json.loads(files["calibration.json"]) | {"score_top_k": 1}
    hub.put(repo, {"calibration.json": json.dumps(other).encode()})
    with answering(hub, statuses(500, part=f"GET /{repo}/resolve")):
        assert client("load", repo) == wanted
    assert client("load", repo)["map"] == wanted["map"]  # the scores differ, the map does not
    assert client("resolve", repo)["revision"] == hub.repos[repo].refs["main"]


def test_a_silent_hub_is_out_of_reach(
    hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    hub.put(REPO, files)
    client("load", REPO)

    async def silent(request: Request) -> None:
        await asyncio.sleep(3)

    client("timeout", 0.5)
    started = time.monotonic()
    with answering(hub, silent):
        assert client("load", REPO) == wanted
        assert "is out of reach" in client.refuses("load", "org/stlm-silent")
    assert time.monotonic() - started < NETWORK_SECONDS
    client("timeout", 10.0)


# ---------------------------------------------------------------- not the Hub


def test_a_redirect_elsewhere_gets_no_token_and_cannot_change_the_weights(
    hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    repo, seen = "org/stlm-redirected", []
    other = HubServer().start()
    hub.put(repo, files)

    async def elsewhere(request: Request) -> Response | None:
        if request.method == "GET" and request.url.path.endswith(".safetensors"):
            return RedirectResponse(f"{other.url.replace('127.0.0.1', 'localhost')}{request.url.path}")
        return None

    async def content(request: Request) -> Response:
        seen.append(dict(request.headers))
        return Response(served[request.url.path.rpartition("/")[2]])

    other.instead = content
    try:
        with answering(hub, elsewhere):
            served = files | {"model.safetensors": files["model.safetensors"][:-4] + b"evil"}
            assert "altered or corrupted" in client.refuses("load", repo, token=TOKEN)
            served = files
            client("resolve", repo, token=TOKEN, force_download=True)
            assert client("load", repo) == wanted
    finally:
        other.stop()
    assert seen and not [headers for headers in seen if "authorization" in headers]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "http://127.0.0.1:9/x", "gopher://x", "{self}", "http://", "//"]
)
def test_redirects_that_lead_nowhere_are_a_sentence(
    target: str, hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    repo = "org/stlm-nowhere"
    hub.put(repo, files)

    async def away(request: Request) -> Response | None:
        if "/api/" not in request.url.path:
            return None
        return RedirectResponse(target.replace("{self}", str(request.url)))

    started = time.monotonic()
    with answering(hub, away):
        assert client.refuses("load", repo).startswith("HubError")
    assert time.monotonic() - started < NETWORK_SECONDS


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ETag", '"../../../../../evil"'),
        ("ETag", '"/tmp/evil-of-a-hub"'),
        ("ETag", '"' + "e" * 4000 + '"'),
        ("X-Linked-Etag", '"..%2f/../evil"'),
        ("X-Repo-Commit", "../../../evil"),
        ("X-Repo-Commit", "/tmp/evil-of-a-hub"),
    ],
)
def test_a_hub_cannot_write_outside_the_cache(
    header: str, value: str, hub: HubServer, client: Client, files: dict[str, bytes]
) -> None:
    repo = "org/stlm-escaping"
    hub.put(repo, files)
    before = set(client.home.parent.rglob("*evil*"))

    async def escaping(request: Request) -> Response | None:
        if "/resolve/" not in request.url.path:
            return None
        content = files["config.json"]
        true = {"ETag": '"1234"', "X-Repo-Commit": "a" * 40, "Content-Length": str(len(content))}
        return Response(b"" if request.method == "HEAD" else content, headers=true | {header: value})

    with answering(hub, escaping):
        assert "which the Hub never does" in client.refuses("load", repo)
    assert set(client.home.parent.rglob("*evil*")) == before and not Path("/tmp/evil-of-a-hub").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"siblings": 5}', b'{"siblings": [{"rfilename": 5}]}'])
def test_answers_that_are_not_the_hubs_are_a_sentence(body: bytes, hub: HubServer, client: Client) -> None:
    async def nonsense(request: Request) -> Response:
        return Response(body, media_type="application/json")

    with answering(hub, nonsense):
        assert client.refuses("load", "org/stlm-nonsense").split(":")[0] in ("HubError", "WeightsError")


# ---------------------------------------------------------------- one cache


def test_two_processes_share_one_cache(
    hub: HubServer, client: Client, files: dict[str, bytes], wanted: dict[str, object]
) -> None:
    hub.put("org/stlm-shared", files)
    second, found = Client(hub.url, client.home), []
    try:
        threads = [
            threading.Thread(target=lambda asking=asking: found.append(asking("load", "org/stlm-shared")))  # type: ignore[misc]
            for asking in (client, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        second.close()
    assert found == [wanted, wanted]


def test_a_cache_that_cannot_be_written_is_named(hub: HubServer, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.put("org/stlm-unkept", files)
    (tmp_path / "home").write_text("a file in the way")
    other = Client(hub.url, tmp_path / "home")
    try:
        sentence = other.refuses("load", "org/stlm-unkept")
    finally:
        other.close()
    assert "which cannot be used" in sentence and "Set HF_HOME" in sentence


# ---------------------------------------------------------------- publishing that is cut off


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier model"])
def test_publishing_that_is_cut_off_anywhere_leaves_no_wrong_model(
    earlier: bool,
    hub: HubServer,
    client: Client,
    saved_memory_toy: Path,
    published: dict[str, str],
    model_folder: Path,
    wanted: dict[str, object],
    tmp_path: Path,
) -> None:
    """The n-th request and all after it fail, for every n: the repository holds the one, the other, or no model."""
    old = client("load", str(saved_memory_toy)) if earlier else None
    reached, cut, outcomes = True, 0, set()
    while reached:
        repo, reached, count = f"org/stlm-cut-{earlier}-{cut}", False, 0
        if earlier:
            hub.put(repo, {path.name: path.read_bytes() for path in saved_memory_toy.iterdir()})

        async def failing(request: Request, cut: int = cut) -> Response | None:
            nonlocal count, reached
            count += 1
            reached = reached or count > cut
            return Response(status_code=400) if count > cut else None

        with answering(hub, failing):
            answer = client("publish", str(model_folder), repo, token=TOKEN, tag="v1")
        assert ("error" in answer) == reached, answer
        found = client("load", repo)
        outcomes.add("none" if "error" in found else "new" if found == wanted else "old")
        assert "error" in found or found in (wanted, old), (cut, found)
        assert not (earlier and "error" in found)
        client("publish", str(model_folder), repo, token=TOKEN, tag="v1")
        assert client("load", repo) == wanted
        assert hub.repos[repo].tags == {"v1": hub.repos[repo].refs["main"]}
        cut += 1
    assert cut > 5 and outcomes == {"old" if earlier else "none", "new"}
