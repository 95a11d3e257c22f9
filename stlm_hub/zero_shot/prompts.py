"""Prompt ensembles: words for good and for anomalous parts, read from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..validate import check_fields

PROMPTS_FILE = Path(__file__).with_name("prompts.yaml")
LONGEST = 200
"""Characters of a prompt, and of a part's name. CLIP itself reads 77 tokens."""
MOST = 1000
"""Prompts of one kind, states times templates; each costs a pass of CLIP's text encoder."""

_LISTS = {"normal": "{part}", "anomalous": "{part}", "templates": "{state}"}
"""Fields of the file that are lists, and what each of their lines must hold."""


@dataclass(frozen=True)
class Prompts:
    """States of a part and sentences around them.

    Args:
        part: name of the part where none is given.
        normal: states of a good part; "{part}" stands for its name.
        anomalous: states of a bad one.
        templates: sentences; "{state}" stands for a state.
    """

    part: str
    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    templates: tuple[str, ...]

    @classmethod
    def load(cls, path: Path = PROMPTS_FILE) -> Prompts:
        """Reads a YAML file.

        Raises:
            ConfigError: it is missing, no YAML, or does not hold the fields of `prompts.yaml`, all of them text.
        """
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from None
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            reason = str(error).partition("\n")[0][:120]
            raise ConfigError(f"{path} is not valid YAML ({reason}); write it like {PROMPTS_FILE}.") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path} holds no prompts; write it like {PROMPTS_FILE}.")
        values = check_fields(path.name, data, ["part", *_LISTS], required=["part", *_LISTS])
        lists = {name: _lines(name, values[name], needed) for name, needed in _LISTS.items()}
        if max(len(lists["normal"]), len(lists["anomalous"])) * len(lists["templates"]) > MOST:
            raise ConfigError(f"{path} makes more than {MOST} prompts of one kind; shorten its lists.")
        return cls(checked_part(values["part"]), **lists)

    def texts(self, part: str | None = None) -> tuple[list[str], list[str]]:
        """All prompts for a part: those of good ones, and those of anomalous ones.

        Args:
            part: its name in a few words, e.g. "bottle"; None: `self.part`.

        Raises:
            ConfigError: the name is not text, or empty.
        """
        name = self.part if part is None else checked_part(part)
        normal, anomalous = (
            [
                template.replace("{state}", state).replace("{part}", name)
                for state in states
                for template in self.templates
            ]
            for states in (self.normal, self.anomalous)
        )
        return normal, anomalous


def checked_part(part: Any) -> str:
    """The name of a part without spaces around it.

    Raises:
        ConfigError: it is no text, empty, longer than `LONGEST`, or holds control characters or angle brackets.
    """
    if not isinstance(part, str):
        raise ConfigError(f'The part must be named in words like "metal nut", not by {part!r:.60}.')
    name = part.strip()
    # CLIP's tokenizer takes <end_of_text> for the end.
    if not name or len(name) > LONGEST or not name.isprintable() or set(name) & set("<>"):
        raise ConfigError(f'The part must be named in a few words like "metal nut", not {part!r:.60}.')
    return name


def _lines(name: str, value: Any, needed: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{name} of the prompts must be a list of texts, not {value!r:.60}.")
    for line in value:
        if not isinstance(line, str) or len(line) > LONGEST or needed not in line:
            raise ConfigError(f"{name} of the prompts must be texts that hold {needed}, not {line!r:.60}.")
    return tuple(value)
