"""One row a photograph: what the journal, the sinks and the drift tests share."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Row:
    """What was found on one photograph, or why it could not be judged.

    Args:
        id: stable name of the photograph, 16 hex digits; a receiver drops what it has seen.
        path: file, or camera and number of the frame.
        time: ISO 8601 in UTC, when it was judged.
        verdict: pass, review, reject or unfamiliar; None where there is an error.
        score, threshold, review_threshold: in [0, 1].
        unfamiliarity: distance from good photographs in limits; above 1 it is unfamiliar.
        error: the sentence; None where there is a verdict.
        seconds: reading and judging.
        picture: file of the reject that was kept.
        advice: what to do, where a drift was found with this photograph.
        note: what may make the photograph other than it was meant; None: nothing.
    """

    id: str
    path: str
    time: str
    verdict: str | None = None
    score: float | None = None
    threshold: float | None = None
    review_threshold: float | None = None
    unfamiliarity: float | None = None
    error: str | None = None
    seconds: float = 0.0
    picture: str | None = None
    advice: str | None = None
    note: str | None = None

    def to_json(self) -> str:
        """One line of ASCII, without its end."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Row:
        """
        Raises:
            DataError: the line is none that `to_json` wrote.
        """
        try:
            data: dict[str, Any] = json.loads(line)
            return cls(**data)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"A line of the journal is not a row of stlm watch ({error}); name another --output."
            ) from None


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
"""Names of a row's values, in order."""
