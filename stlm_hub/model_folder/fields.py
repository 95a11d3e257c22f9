"""Types of the fields of results.json: a value of a stranger's file is of them, or refused."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from ..models.stlm.scales import ANOMALY_MAPS


def _finite(value: JsonValue) -> JsonValue:
    """The same value; ValueError where a number in it is none, which JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(inner)
    return value


STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Text = Annotated[str, Field(max_length=4000)]
Value = bool | int | float | Text
"""Of an option of a command."""
Values = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1)]
MapName = Annotated[str, Field(pattern=f"^({'|'.join(ANOMALY_MAPS)})$")]
Settings = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
