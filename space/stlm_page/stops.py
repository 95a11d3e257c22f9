"""Visitors' wishes to stop what they have started."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr


class Stops:
    """What is running for which visitor, and may be asked to end. A visitor is a session of the page."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Event] = {}

    @contextmanager
    def running(self, request: gr.Request) -> Iterator[threading.Event]:
        """While the block runs, the visitor's `ask` sets the event that it is given."""
        session, asked = request.session_hash or "", threading.Event()
        self._running[session] = asked
        try:
            yield asked
        finally:
            if self._running.get(session) is asked:  # the visitor may have started anew in another tab
                del self._running[session]

    def ask(self, request: gr.Request) -> dict[str, Any]:
        """Handler of a stop button: what is running ends when it next looks. The button goes grey."""
        asked = self._running.get(request.session_hash or "")
        if asked is not None:
            asked.set()
        return gr.update(interactive=False)

    def __contains__(self, session: str) -> bool:
        return session in self._running
