"""What the page answers: the requests of its browsers and of programs that call its endpoints, and no others.

Gradio serves much that this page does not offer: events by name, past the queue; a proxy; a monitor; an editor of the
page. What is not listed here does not exist.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .bodies import (
    ADDRESS,
    MAX_EVENT_BYTES,
    MAX_MCP_BYTES,
    Bodies,
    Refused,
    Upload,
    again,
    check_upload,
    names_an_address,
)

ENDPOINTS = ("predict", "models")
"""What programs may call by name. Everything else that the page can do is for the page in a browser."""

HEADERS = {
    # A browser asks no other server for anything, whatever gets into the page; links can be followed. Gradio's own
    # scripts and styles stand in the page, and it compiles templates. Who may frame the page is left open: a Space is.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'none'; object-src 'none'; "
        "base-uri 'self'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
}

LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
"""Names of this machine to itself."""

_NAME = "|".join(ENDPOINTS)
_API = "/gradio_api"
_UPLOAD, _MCP = f"{_API}/upload", f"{_API}/mcp"
_NOT_OURS = "This page answers to localhost only; set STLM_SPACE_HOSTS to the name that it is to be reached by."
_ANSWERED = [
    (methods, re.compile(path))
    for methods, path in (
        (("GET", "HEAD"), r"/|/config/?|/theme\.css|/robots\.txt|/favicon\.ico|/manifest\.json|/(assets|static)/.+"),
        (("GET",), rf"{_API}/(info|openapi\.json|startup-events|app_id|user|theme\.css)/?"),
        (("GET", "HEAD"), rf"{_API}/file=(?!https?:).+"),  # an address would make the page a proxy
        (("POST",), rf"{_API}/(upload|cancel|reset|queue/join)/?"),
        (("GET",), rf"{_API}/(upload_progress|queue/data|queue/status|heartbeat/[^/]+)"),
        (("POST",), rf"{_API}/call/(v2/)?({_NAME})/?"),
        (("GET",), rf"{_API}/call/(v2/)?({_NAME})/[^/]+"),
        # Not past the queue: `api_open=False` has Gradio refuse whatever has one. A browser's Stop button has none.
        (("POST",), rf"{_API}/run/({_NAME})/?"),
        (("GET", "POST", "DELETE"), rf"{_API}/mcp(/.*)?"),
    )
]


def hosts_of(server_name: str) -> frozenset[str] | None:
    """The names that the page answers to: `Guard`'s `hosts`. Those of STLM_SPACE_HOSTS are added, with commas between.

    Args:
        server_name: the address that the page is served on. On one that others reach, any name leads here.
    """
    if server_name.lower() not in LOOPBACK:
        return None
    return LOOPBACK | {name.strip().lower() for name in os.environ.get("STLM_SPACE_HOSTS", "").split(",")} - {""}


class Guard:
    """ASGI middleware around Gradio's application.

    Args:
        app: Gradio's.
        hosts: names that requests may be made to, and pages that make them may come from; None: any. A page that is
            served to this machine alone would else be read by any web site whose name is made to lead here.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self.app = app
        self.hosts = hosts
        self.bodies = Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif not self._is_ours(Headers(scope=scope)):
            await JSONResponse({"detail": _NOT_OURS}, 403)(scope, receive, send)
        elif not is_answered(scope["method"], scope["path"]):
            await JSONResponse({"detail": "There is nothing here; see the page's API."}, 404)(scope, receive, send)
        elif scope["method"] != "POST":
            await self.app(scope, receive, _with_headers(send))
        else:
            try:
                if scope["path"].startswith(_UPLOAD):  # which Gradio writes to the disk
                    await self._upload(scope, receive, send)
                else:
                    await self._with_body(scope, receive, send)
            except Refused as refused:
                # Others send the rest, which nobody reads, and then see the answer.
                close = {"Connection": "close"} if refused.status == 408 else None
                await JSONResponse({"detail": str(refused)}, refused.status, close)(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_upload(Headers(scope=scope).get("content-length"))
        upload, answer = Upload(receive), _with_headers(send)

        async def unless_refused(message: Message) -> None:
            if upload.refused is None:
                await answer(message)

        await self.app(scope, upload.receive, unless_refused)
        if upload.refused is not None:
            raise upload.refused

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        mcp = scope["path"].startswith(_MCP)
        body = await self.bodies.read(receive, MAX_MCP_BYTES if mcp else MAX_EVENT_BYTES)
        try:
            if not mcp and names_an_address(body):
                refused = {"__type__": "validate", "is_valid": False, "parameter_name": "photo", "message": ADDRESS}
                await JSONResponse({"detail": [refused]}, 422)(scope, receive, send)  # as clients of Gradio show it
            else:
                await self.app(scope, again(body, receive), _with_headers(send))
        finally:
            self.bodies.release(body)

    def _is_ours(self, headers: Headers) -> bool:
        asked = [f"//{headers.get('host', '')}", *headers.getlist("origin")]
        return self.hosts is None or all(_host(address) in self.hosts for address in asked)


def _host(address: str) -> str:
    """The host of an address in lower case, without its port; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers


def is_answered(method: str, path: str) -> bool:
    """Whether a request goes through to Gradio. `path` is decoded, as the routes see it."""
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _ANSWERED)
