"""The row of a photograph, and Parquet files of rows and of maps."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..predict.prediction import Prediction

SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "verdict": pa.string(),
        "score": pa.float64(),
        "threshold": pa.float64(),
        "unfamiliar": pa.float64(),
        "error": pa.string(),
        "seconds": pa.float64(),
        "note": pa.string(),
    }
)
MAP_SCHEMA = pa.schema({"path": pa.string(), "map": pa.binary()})
_LEVELS = 2**16 - 1


@dataclass(frozen=True)
class Row:
    """The verdict on one photograph, or why it could not be judged.

    Args:
        path: of the photograph. Bytes of a name that are no UTF-8 are written as "\\xfc".
        verdict: pass, review, reject or unfamiliar; None: there is an error.
        score, threshold: in [0, 1].
        unfamiliar: distance of the whole photograph from good ones in limits; above 1 the verdict is "unfamiliar".
        error: a sentence; None: there is a verdict.
        seconds: for reading it, plus its share of judging its batch.
        note: why the photograph may not be what was meant, see `read_picture`; None: nothing to say.
    """

    path: str
    verdict: str | None = None
    score: float | None = None
    threshold: float | None = None
    unfamiliar: float | None = None
    error: str | None = None
    seconds: float = 0.0
    note: str | None = None


def judged_row(path: str, judged: Prediction, seconds: float) -> Row:
    """The row of a prediction; `seconds` for reading and judging."""
    return Row(
        printable(path),
        judged.verdict,
        judged.score,
        judged.threshold,
        judged.unfamiliarity,
        seconds=round(seconds, 4),
        note=printable(" ".join(judged.notes)) or None,
    )


def printable(text: str) -> str:
    """Text that Parquet can hold: bytes that are no UTF-8 become "\\xfc" and the like."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def rows_to_parquet(rows: Sequence[Row]) -> bytes:
    """A Parquet file of `SCHEMA`."""
    return _parquet(pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], SCHEMA))


def maps_to_parquet(paths: Sequence[str], maps: Sequence[bytes]) -> bytes:
    """A Parquet file of `MAP_SCHEMA`: one path for each encoded map."""
    return _parquet(pa.Table.from_pydict({"path": [printable(path) for path in paths], "map": list(maps)}, MAP_SCHEMA))


def encode_map(anomaly_map: np.ndarray) -> bytes:
    """HxW float in [0, 1] -> bytes of a 16-bit grey PNG, in which 1 is 65535."""
    levels = np.clip(np.rint(anomaly_map * _LEVELS), 0, _LEVELS).astype(np.uint16)
    return bytes(cv2.imencode(".png", levels)[1])


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
