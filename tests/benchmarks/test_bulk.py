"""What the sizes of very many photographs are worked out from."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bulk import CORES, bytes_a_row, sized
from stlm_hub.bulk.row import Row, rows_to_parquet


def test_sizes_follow_from_what_one_photograph_takes() -> None:
    million, billion = sized(cpu_seconds=0.36, row=20.0, anomaly_map=50_000.0)
    assert million["photographs"] == 10**6 and million["cpu_hours"] == 100
    assert million["machine_days"] == round(100 / 24 / CORES, 1) and million["machines_for_a_week"] == 1
    assert billion["machines_for_a_week"] == 10 and billion["cpu_hours"] == 100_000  # 65.1 days
    assert (million["rows_gb"], million["maps_tb"], million["parts"]) == (0.02, 0.05, 1000)


def test_a_row_is_weighed_in_a_whole_part(tmp_path: Path) -> None:
    rows = [Row(f"/photographs/{i:08d}", "pass", 0.1 * i, 0.5, 0.2, None, 0.5) for i in range(4)]
    (tmp_path / "part-0000000.parquet").write_bytes(rows_to_parquet(rows))
    assert 10 < bytes_a_row(tmp_path) < len(rows_to_parquet(rows)) / 4
