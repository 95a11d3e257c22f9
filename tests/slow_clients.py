"""How many visitors the page gets in tests, and such as no browser is: who send a byte now and then, or go away."""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

REQUESTS = int(os.environ.get("STLM_LOAD", "12"))
MADE_TEST = REQUESTS < 200
"""Whether this is a part of `make test`."""
CLIENTS = max(6, REQUESTS // 5)

MARK = "a-line-between-the-parts"
START = f'--{MARK}\r\nContent-Disposition: form-data; name="files"; filename="part.png"\r\n\r\n'.encode()


def connected(url: str) -> socket.socket:
    """A connection to a page."""
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 80), timeout=60)


def begin(url: str, path: str, length: int | None, body: bytes = b"") -> socket.socket:
    """A POST that has just begun.

    Args:
        url: address of the page.
        path: what is asked for; an upload, or an event with JSON.
        length: bytes of the body that are promised; None: it comes in chunks and promises nothing.
        body: the beginning of the body.
    """
    kind = f"multipart/form-data; boundary={MARK}" if path.endswith("upload") else "application/json"
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{size}\r\n\r\n"
    sock = connected(url)
    sock.sendall(head.encode() + body)
    return sock


def status(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer that fits into a few kB."""
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
        piece = sock.recv(65536)
        if not piece:
            break
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@contextmanager
def trickling(url: str, count: int, every: float = 0.2) -> Iterator[list[socket.socket]]:
    """While the block runs, that many clients send a byte each now and then: uploads and events in turn."""
    promised = 10**6
    sockets = [
        begin(url, "/gradio_api/upload", promised, START)
        if number % 2
        else begin(url, "/gradio_api/queue/join", promised, b'{"data": "')
        for number in range(count)
    ]
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(every):
            for sock in sockets:
                sock.sendall(b"x")

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield sockets
    finally:
        ended.set()
        sender.join()
        for sock in sockets:
            sock.close()


def leave_while_waiting(url: str, body: dict[str, object], join: str, listen: str, heard: bytes = b"") -> None:
    """Sets off an event, listens for its answer, and goes away.

    Args:
        url: address of the page.
        body: of the event; gets a session of its own.
        join: path that events are sent to.
        listen: path that answers come from, where {event} and {session} are filled in.
        heard: what is waited for before; nothing: the beginning of any answer.
    """
    session = uuid.uuid4().hex
    data = json.dumps({**body, "session_hash": session}).encode()
    with begin(url, join, len(data), data) as sock:
        code, answer = status(sock)
        assert code == 200, answer
    path = listen.format(event=json.loads(answer)["event_id"], session=session)
    with connected(url) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answered = b""
        while not answered or heard not in answered:
            piece = sock.recv(65536)
            assert piece, answered
            answered += piece
