"""What commands print: results, notes, and errors as one sentence without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from ..errors import ConfigError, OutlineWarning, PictureWarning, STLMError

# Of several processes of one training the first one speaks; RANK is what launchers number them with. Most of what is
# printed holds a path or a name, in which [red] and :smile: are letters.
console = Console(quiet=os.environ.get("RANK", "0") != "0", markup=False, emoji=False, highlight=False)

_STYLES = {"pass": "green", "review": "yellow", "reject": "bold red", "unfamiliar": "magenta"}
VERDICTS = {verdict: f"[{style}]{verdict.capitalize():<10}[/]" for verdict, style in _STYLES.items()}
"""Markup of each verdict's word, of one width."""
UNUSABLE = f"[yellow]{'Unusable':<10}[/]"
"""What stands in a verdict's place where there is none."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def say(text: str, *, markup: bool = False) -> None:
    """Prints a sentence or a result; a long line stays one.

    Args:
        text: printed as it is.
        markup: [green] and so on are styles. Whatever comes from elsewhere then goes through `rich.markup.escape`.
    """
    console.print(text, markup=markup, soft_wrap=True)


def say_next_steps(model: Path, name: str) -> None:
    """Prints what can be done with a model that was just made."""
    say(f"Read what each threshold rejects and misses: {model / 'README.md'}")
    say(f"Judge photographs: stlm predict PHOTOGRAPHS --model {model} --output panels")
    say(f"Share it: stlm publish {model} --repo ORG/{name}")


@contextmanager
def needing(work: str, extra: str) -> Iterator[None]:
    """Around imports of what an extra of the package installs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f'{work} needs {error.name}: pip install "stlm_hub[{extra}]"') from None


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Prints the message of an `STLMError` without a traceback and ends the program with exit code 1.

    Ctrl-C ends it with `INTERRUPTED`; typer alone would say 1.
    """

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        sys.exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    except STLMError as error:
        print_error(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "stlm_hub":
            raise
        print_error(f'This needs {error.name}: pip install "stlm_hub[torch]", or "stlm_hub[train]" to train')
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, before)


def print_error(sentence: str) -> None:
    """Prints the message of an error without a traceback."""
    _print_beside("Error:", "bold red", sentence)


def print_note(sentence: str) -> None:
    """Prints what people should know beside the results, where it does not get into them."""
    _print_beside("Note:", "yellow", sentence)


def _print_beside(label: str, style: str, sentence: str) -> None:
    Console(stderr=True).print(Text.assemble((label, style), " ", sentence), soft_wrap=True)


def say_warnings() -> None:
    """From now on warnings of photographs and of their outlines are notes, each once; others look as before."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, (PictureWarning, OutlineWarning)):
            print_note(str(message))
        else:
            usual(message, category, *place, **more)

    warnings.simplefilter("once", PictureWarning)
    warnings.simplefilter("once", OutlineWarning)
    warnings.showwarning = show
