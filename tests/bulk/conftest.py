"""What tests of photographs in bulk share: an export that worker processes load, and a folder of photographs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drawn import write_photographs
from exported import exported

__all__ = ["exported"]


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 70 photographs; one more is damaged."""
    folder = tmp_path_factory.mktemp("many")
    write_photographs(folder, 70, 300, 400)
    (folder / "part_7b.png").write_bytes(b"no photograph")
    return folder


def names_of(output: Path | str) -> list[str]:
    """File names in the rows of a folder, sorted."""
    return sorted(path.rpartition("/")[2] for path in pq.read_table(output).column("path").to_pylist())
