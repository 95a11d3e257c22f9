"""`stlm watch` end to end: kill -9 and restart, a webhook that fails, a video, a half-written file."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import texture, write_photographs
from watched import model, rows, served, wait_for, watch_while

from stlm_hub.errors import ConfigError, DataError
from stlm_hub.line.journal import Journal
from stlm_hub.line.rejects import Rejects
from stlm_hub.line.row import COLUMNS
from stlm_hub.line.senders import Mqtt, Webhook
from stlm_hub.line.watch import watch

KILLED = """
import sys, time
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from watched import model
from stlm_hub.line.watch import watch
slow = model()
judge = slow.predict
def predict(image, *, threshold=None, review_threshold=None, refine=None):
    time.sleep(0.05)
    return judge(image, threshold=threshold)
slow.predict = predict
watch(slow, sys.argv[1], Path(sys.argv[2]), once=True, csv=Path(sys.argv[2]) / "rows.csv")
"""


def test_each_photograph_has_one_row_after_kill_9(tmp_path: Path) -> None:
    photographs, output = tmp_path / "photos", tmp_path / "out"
    write_photographs(photographs, 20)
    here = Path(__file__)
    paths = os.pathsep.join([str(here.parents[2]), str(here.parents[1])])
    command = [sys.executable, "-c", KILLED, str(photographs), str(output), str(here.parent)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths})
    wait_for(lambda: len(rows(output)) >= 5, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(rows(output)) < 20
    for name in ("verdicts.jsonl", "rows.csv"):
        with (output / name).open("ab") as file:
            file.write(b'{"id": "half')
    watch(model(), str(photographs), output, once=True, csv=output / "rows.csv")
    assert sorted(Path(row.path).name for row in rows(output)) == sorted(p.name for p in photographs.iterdir())
    lines = (output / "rows.csv").read_text().splitlines()
    assert len(lines) == 21 and [line.partition(",")[0] for line in lines[1:]] == [row.id for row in rows(output)]
    assert watch(model(), str(photographs), output, once=True) == 0


def test_a_webhook_that_fails_gets_every_row_in_the_end(tmp_path: Path) -> None:
    got: list[str] = []

    failures = 1

    def answer(request: BaseHTTPRequestHandler) -> None:
        nonlocal failures
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        if failures:
            failures -= 1
            request.send_response(503)
        else:
            assert request.headers["Idempotency-Key"] == body["id"]
            got.append(body["id"])
            request.send_response(204)
        request.end_headers()

    write_photographs(tmp_path / "photos", 3)
    said: list[str] = []
    with served(answer) as (url, _):
        hook = Webhook(url)
        watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, senders=[hook], say=said.append)
        # What was not delivered before the end is delivered by the next start.
        watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, senders=[hook], say=said.append)
    assert got == [row.id for row in rows(tmp_path / "out")] and len(got) == 3
    assert "Rows do not reach webhook (HTTP 503); they wait and are sent again." in said


def test_a_video_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "part.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (90, 70))
    for i in range(20):
        writer.write(texture(70, 90, i))
    writer.release()
    few = iter([False] * 5 + [True] * 100)
    watch(model(), str(path), tmp_path / "out", every=0.5, stopped=lambda: next(few))
    watch(model(), str(path), tmp_path / "out", every=0.5)
    assert [row.path.rpartition("#")[2] for row in rows(tmp_path / "out")] == ["0", "5", "10", "15"]


def test_a_file_that_is_still_written_is_waited_for(tmp_path: Path) -> None:
    photographs = tmp_path / "photos"
    (whole,) = write_photographs(tmp_path / "camera", 1) if (tmp_path / "camera").mkdir() is None else []
    photographs.mkdir()
    data = whole.read_bytes()

    def write() -> None:
        with (photographs / "part.png").open("wb") as file:
            for start in range(0, len(data), len(data) // 4):
                file.write(data[start : start + len(data) // 4])
                file.flush()
                time.sleep(0.3)

    watch_while(write, photographs, tmp_path / "out")
    assert [row.verdict for row in rows(tmp_path / "out")] == ["pass"]


def test_pictures_of_rejects_stay_below_their_limit(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 4)
    kept = Rejects(tmp_path / "rejects", 40_000)
    watch(model(0.9), str(tmp_path / "photos"), tmp_path / "out", once=True, rejects=kept)
    there = list((tmp_path / "rejects").iterdir())
    assert 1 <= len(there) < 4 and str(tmp_path / "rejects") in str(rows(tmp_path / "out")[-1].picture)


def test_pictures_of_others_in_the_folder_of_rejects_are_left_alone(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 4)
    (tmp_path / "rejects").mkdir()
    others = [tmp_path / "rejects" / name for name in ("holiday.jpg", "0123456789abcdef.jpg", "reject_1.jpg")]
    for path in others:
        path.write_bytes(b"x" * 30_000)
        os.utime(path, (0, 0))
    for _ in range(2):
        kept = Rejects(tmp_path / "rejects", 110_000)
        watch(model(0.9), str(tmp_path / "photos"), tmp_path / "out", once=True, rejects=kept)
    assert all(path.stat().st_size == 30_000 for path in others)
    own = [path for path in (tmp_path / "rejects").iterdir() if path not in others]
    assert 1 <= len(own) < 4 and sum(path.stat().st_size for path in own) <= 110_000


def test_rejects_in_the_watched_folder_are_refused_or_they_would_be_watched(tmp_path: Path) -> None:
    photographs = tmp_path / "photos"
    write_photographs(photographs, 1)
    (tmp_path / "link").symlink_to(photographs)
    for folder in (photographs, photographs / "rejects", tmp_path / "link" / "deep" / "rejects"):
        kept = Rejects(folder, 10**6)
        with pytest.raises(DataError, match="would be judged as photographs; name a folder beside it for --rejects"):
            watch(model(0.9), str(photographs), tmp_path / "out", once=True, rejects=kept)
    kept = Rejects(tmp_path / "photos-rejects", 10**6)
    assert watch(model(0.9), str(photographs), tmp_path / "out", once=True, rejects=kept) == 1


@pytest.mark.parametrize("data", [b"part,size\n1,2\n", b"\x89PNG\r\n\x1a\n\0\0", b"no end of a line"])
def test_a_table_does_not_write_into_a_file_of_somebody_elses(tmp_path: Path, data: bytes) -> None:
    write_photographs(tmp_path / "photos", 1)
    table = tmp_path / "photos" / "mine.csv"
    table.write_bytes(data)
    with pytest.raises(DataError, match="is no table of stlm watch; name another file for --csv"):
        watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, csv=table)
    assert table.read_bytes() == data
    with pytest.raises(DataError, match="is no table of stlm watch"):  # the journal itself
        watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, csv=tmp_path / "out" / "verdicts.jsonl")


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with Journal(tmp_path / "out"), pytest.raises(DataError, match="Another stlm watch"):
        Journal(tmp_path / "out")
    (tmp_path / "text.txt").write_text("no video")
    with pytest.raises(DataError, match="no video that OpenCV can read"):
        watch(model(), str(tmp_path / "text.txt"), tmp_path / "out")
    for wrong in (lambda: Webhook("ftp://x"), lambda: Mqtt("mqtt://host"), lambda: Mqtt("mqtt://host/#")):
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.parametrize("there", [False, True])
def test_a_start_that_is_refused_leaves_nothing_behind(there: bool, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 1)
    (tmp_path / "foreign.csv").write_text("part,size\n")
    output = tmp_path / "new" / "out"
    if there:
        output.mkdir(parents=True)
        (output / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    rejects = Rejects(tmp_path / "new" / "rejects", 10**6)
    for source, table, words in (
        ("none", None, "is not a folder; pass a folder, a video file"),
        ("foreign.csv", None, "no video that OpenCV can read"),
        ("photos", tmp_path / "foreign.csv", "is no table of stlm watch"),
    ):
        with pytest.raises(DataError, match=words):
            watch(model(), str(tmp_path / source), output, once=True, csv=table, rejects=rejects)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_refused_start_leaves_the_rows_of_an_earlier_one(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 1)
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True)
    with pytest.raises(DataError, match="is not a folder"):
        watch(model(), str(tmp_path / "none"), tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 1


def test_a_journal_that_is_removed_while_another_opens_it_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def late(*arguments: int) -> None:
        (tmp_path / "out" / "verdicts.jsonl").unlink()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(DataError, match="Another stlm watch writes to"):
        Journal(tmp_path / "out")


def test_no_cell_of_the_table_is_a_formula_and_a_note_is_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, output = tmp_path / "photos", tmp_path / "out"
    photographs.mkdir()
    cv2.imwrite(str(photographs / "=1+1;=2.png"), texture(40, 50)[..., 0].astype(np.uint16) << 4)
    (photographs / os.fsdecode(b"-M\xfcller.png")).write_bytes(b"")
    os.utime(photographs / os.fsdecode(b"-M\xfcller.png"), (0, 0))
    monkeypatch.chdir(photographs)
    assert watch(model(), ".", output, once=True, csv=output / "rows.csv") == 2
    with (output / "rows.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@") or ";=" in cell]
    assert sorted(bool(row.note) for row in rows(output)) == [False, True]
    assert "16 times too dark" in next(row.note or "" for row in rows(output) if row.note)


def test_a_table_of_an_earlier_version_keeps_its_columns(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 2)
    table = tmp_path / "rows.csv"
    table.write_text(",".join(COLUMNS[:-1]) + "\n")
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, csv=table)
    assert {len(row) for row in csv.reader(table.read_text().splitlines())} == {len(COLUMNS) - 1}
