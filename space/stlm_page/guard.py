"""What the page answers: the requests of its browsers and of programs that call its endpoints, and no others.

Gradio serves much that this page does not offer: events by name, past the queue; a proxy; a monitor; an editor of the
page. What is not listed here does not exist.
"""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ENDPOINTS = ("predict", "models")
"""What programs may call by name. Everything else that the page can do is for the page in a browser."""

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
        if scope["type"] == "lifespan" or (scope["type"] == "http" and is_answered(scope["method"], scope["path"])):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await JSONResponse({"detail": "There is nothing here; see the page's API."}, 404)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_answered(method: str, path: str) -> bool:
    """Whether a request goes through to Gradio. `path` is decoded, as the routes see it."""
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _ANSWERED)
