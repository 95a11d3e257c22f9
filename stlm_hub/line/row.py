"""The row of a photograph, which journal, sinks and drift tests share."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Row:
    """The verdict on one photograph, or why it could not be judged.

    Args:
        id: stable id of the photograph, 16 hex digits; a receiver drops an id that it has already.
        path: file, or camera and number of the frame.
        time: ISO 8601 in UTC, when it was judged.
        verdict: pass, review, reject or unfamiliar; None: there is an error.
        score, threshold, review_threshold: in [0, 1].
        unfamiliarity: distance from good photographs in limits; above 1 it is unfamiliar.
        error: a sentence; None: there is a verdict.
        seconds: that reading and judging took.
        picture: path of the kept picture of a reject; None: none was kept.
        advice: what to do about the drift that was detected at this photograph, a sentence for each test that alarms;
            None: none does.
        note: why the photograph may not be what was meant, see `read_picture`; None: nothing to say.
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
        """The row as one line of ASCII JSON, without a newline."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Row:
        """The row of a line of the journal.

        Raises:
            DataError: `to_json` did not write the line.
        """
        try:
            data: dict[str, Any] = json.loads(line)
            return cls(**data)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"A line of the journal is not a row of stlm watch ({error}); name another --output."
            ) from None


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
"""Names of the fields of a row, in order."""
