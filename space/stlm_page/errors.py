"""Errors that a user caused become messages on the page; nothing else is shown to users."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr

from stlm_hub.errors import STLMError

SHOWN_SECONDS = 20.0


@contextmanager
def explained() -> Iterator[None]:
    """Raises every `STLMError` as `gr.Error` with the same sentence, the only kind that reaches a user of a Space.

    Gradio shows the sentence as HTML, and names of files and repositories are in it: what would be a tag becomes text.
    """
    try:
        yield
    except STLMError as error:
        shown = escape(str(error), quote=False)
        raise gr.Error(shown, duration=SHOWN_SECONDS, title="That did not work", print_exception=False) from error


def user_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of event handlers, plain functions and generators alike, see `explained`."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generate(*args: Any, **kwargs: Any) -> Any:
            with explained():
                yield from handler(*args, **kwargs)

        return generate

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        with explained():
            return handler(*args, **kwargs)

    return call
