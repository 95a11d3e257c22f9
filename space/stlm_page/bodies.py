"""What a request may carry: so many bytes, and files that were uploaded, not addresses of files elsewhere.

Gradio reads a request into memory whole, and whatever an address in it leads to as well, from any component. Uploads it
writes to the disk as they come, and leaves there what is cut off.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from typing import Any

from gradio.utils import get_upload_folder
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

from .uploads import MAX_UNPACKED_BYTES

MAX_EVENT_BYTES = 2 * 2**20  # the data of an event; 1,000 uploaded files take 0.7 MB
MAX_MCP_BYTES = 64 * 2**20  # a call of an agent, with its photograph inside
MAX_HELD_BYTES = 256 * 2**20  # of all bodies that are read or worked on at once
MAX_UPLOAD_BYTES = MAX_UNPACKED_BYTES + 2**20  # of all files of one upload, and what stands between them
MIN_FREE_BYTES = 2**30  # of the disk, which uploads leave to the page and to others
GRACE, SLOWEST = 60.0, 10_000  # seconds; bytes a second that a body comes in at least, once they have passed

ADDRESS = "Addresses are not fetched here: upload the photograph, or give it as a data: address."
TOO_LARGE = "This request is too large; upload files first."
TOO_SLOW = "This request came too slowly; send it again over a faster connection."
BUSY = "Too many large requests are being answered; try again in a minute."
NO_ROOM = "There is no room for more files here at the moment; try again in an hour."
TOO_MUCH = f"This upload has more than {MAX_UNPACKED_BYTES / 10**9:g} GB; upload fewer files at a time."
CUT_OFF = "The upload was cut off; send it again."


class Refused(Exception):
    """A body that is not read to its end: status of the answer, and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Bodies:
    """Reads bodies, and knows how many bytes of them are in memory."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, receive: Receive, limit: int) -> bytes:
        """The body of a request, which counts as held until it is given to `release`.

        Raises:
            Refused: it has more bytes than `limit`, comes too slowly, or others hold too many.
        """
        pieces, size, more = [], 0, True
        receive = in_time(receive)
        try:
            while more:
                message = await receive()
                if message["type"] != "http.request":  # whoever asked is gone
                    break
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                self.held += len(pieces[-1])
                if size > limit:
                    raise Refused(413, TOO_LARGE)
                if self.held > MAX_HELD_BYTES:
                    raise Refused(503, BUSY)
                more = message.get("more_body", False)
        except BaseException:
            self.held -= size
            raise
        return b"".join(pieces)

    def release(self, body: bytes) -> None:
        """The request is answered."""
        self.held -= len(body)


def in_time(receive: Receive) -> Receive:
    """A `receive` that raises `Refused` where a body keeps the page waiting, be it byte by byte."""
    began, size, whole = time.monotonic(), 0, False

    async def receive_in_time() -> Message:
        nonlocal size, whole
        if whole:  # what follows is that whoever asked goes away
            return await receive()
        left = began + GRACE + size / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, left))
        except asyncio.TimeoutError:  # not yet the built-in one in Python 3.10
            raise Refused(408, TOO_SLOW) from None
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


def check_upload(declared: str | None) -> None:
    """Refuses an upload by its Content-Length, before any of it is read.

    Raises:
        Refused: it is too large, or the disk is nearly full.
    """
    size = int(declared) if declared is not None and declared.isdecimal() else 0
    if size > MAX_UPLOAD_BYTES:
        raise Refused(413, TOO_MUCH)
    if _free() < MIN_FREE_BYTES + size:
        raise Refused(507, NO_ROOM)


class Upload:
    """An upload on its way through Gradio's parser, which deletes what it has written where it sees its own exception.

    It does not where whoever uploads goes away: the beginnings of files would stay for ever.

    Args:
        receive: of the request.
    """

    def __init__(self, receive: Receive) -> None:
        self.refused: Refused | None = None
        """Why the upload ended early: the answer, in the place of what Gradio makes of it."""
        self._receive = in_time(receive)
        self._size, self._whole = 0, False

    async def receive(self) -> Message:
        """The `receive` that Gradio is given."""
        try:
            message = await self._receive()
            self._size += len(message.get("body", b""))
            if self._size > MAX_UPLOAD_BYTES:
                raise Refused(413, TOO_MUCH)
            if message["type"] != "http.request" and not self._whole:
                raise Refused(400, CUT_OFF)
        except Refused as error:
            self.refused = error
            raise MultiPartException(str(error)) from None
        self._whole = not message.get("more_body", False)
        return message


def _free() -> int:
    """Bytes that the disk of the page's cache has left."""
    try:
        return shutil.disk_usage(get_upload_folder()).free
    except OSError:  # made by the first upload
        return MIN_FREE_BYTES + MAX_UPLOAD_BYTES


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
