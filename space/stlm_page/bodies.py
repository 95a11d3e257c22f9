"""What a request may carry: so many bytes, and files that were uploaded, not addresses of files elsewhere.

Gradio reads a request into memory whole, and whatever an address in it leads to as well, from any component.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Message, Receive

MAX_EVENT_BYTES = 2 * 2**20  # the data of an event; 1,000 uploaded files take 0.7 MB
MAX_MCP_BYTES = 64 * 2**20  # a call of an agent, with its photograph inside

ADDRESS = "Addresses are not fetched here: upload the photograph, or give it as a data: address."


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The body of a request; None where it has more bytes than `limit`, of which no more are read."""
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # whoever asked is gone
            break
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            return None
        more = message.get("more_body", False)
    return b"".join(pieces)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out a body that was read, and then goes on as before."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def names_an_address(body: bytes) -> bool:
    """Whether a file anywhere in an event's JSON is an address that Gradio would fetch, or it is nested too deeply."""
    try:
        found: list[Any] = [json.loads(body)]
    except ValueError:
        return False  # Gradio says so
    except RecursionError:
        return True
    while found:
        value = found.pop()
        if isinstance(value, dict):
            if str(value.get("path")).lower().startswith(("http://", "https://")):
                return True
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
    return False
