"""What the page answers: the requests of its browsers and of programs that call its endpoints, and no others.

Gradio serves much that this page does not offer: events by name, past the queue; a proxy; a monitor; an editor of the
page. What is not listed here does not exist.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

_NAME = "|".join(ENDPOINTS)
_API = "/gradio_api"
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


class Guard:
    """ASGI middleware around Gradio's application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif not is_answered(scope["method"], scope["path"]):
            await JSONResponse({"detail": "There is nothing here; see the page's API."}, 404)(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers


def is_answered(method: str, path: str) -> bool:
    """Whether a request goes through to Gradio. `path` is decoded, as the routes see it."""
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _ANSWERED)
