"""What goes wrong around a line: receivers that answer oddly, full disks, folders that are away for a while."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drawn import write_photographs
from watched import model, rows, served, watch_while

from stlm_hub.errors import ConfigError, DataError, ImageError
from stlm_hub.line import folder as folder_module
from stlm_hub.line.camera import Camera
from stlm_hub.line.drift import Drift
from stlm_hub.line.folder import FolderSource
from stlm_hub.line.journal import Journal
from stlm_hub.line.outbox import Outbox
from stlm_hub.line.rejects import Rejects
from stlm_hub.line.row import Row
from stlm_hub.line.senders import CsvFile, Mqtt, Webhook
from stlm_hub.line.watch import watch

ROW = Row("0" * 16, "part.png", "2026-01-01T00:00:00.000+00:00", "pass", 0.25, 0.5)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_webhook_that_is_elsewhere_has_not_got_the_row(code: int) -> None:
    def moved(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code if request.command == "POST" else 200)
        request.send_header("Location", "/moved")
        request.end_headers()

    with served(moved) as (url, asked), pytest.raises(OSError, match=f"HTTP {code} to /moved"):
        Webhook(url).send(ROW)
    assert asked == ["POST"]


def test_what_answers_a_webhook_need_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10**6)
                connection.sendall(b"220 mail.example ready\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(OSError, match="BadStatusLine"):
            Webhook(f"http://127.0.0.1:{server.getsockname()[1]}").send(ROW)


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1", "http://host:x/", "http://host:0/", "http://me:pw@host/", "http://", "http://a b/"),
        *("http://a..b/", f"http://{'a' * 64}/", "http://ü..example/", "http://host/\udcfc", "http://a^b/"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="A webhook is an http") as refused:
        Webhook(url)
    assert "pw" not in str(refused.value)
    with pytest.raises(ConfigError, match="A broker is given as"):
        Mqtt(url)


@pytest.mark.parametrize(
    "url",
    [
        *("mqtt://host:99999/a", "mqtt://[::1/a", "mqtt://host/a#b", "mqtt://host/a/#", "mqtt://h/+/b"),
        *("mqtt://host/\udcfc", "mqtt://host/a\0b", "mqtt://\udcfc@host/a", "mqtt://host/" + 65536 * "a"),
    ],
    ids=lambda url: ascii(url)[:30],
)
def test_a_topic_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="A broker is given as"):
        Mqtt(url)


def test_a_broker_that_is_lost_while_it_is_told_has_not_got_the_row() -> None:
    client = pytest.importorskip("paho.mqtt.client")
    lost = client.MQTTMessageInfo(1)
    lost.rc = client.MQTT_ERR_NO_CONN
    sender = Mqtt.__new__(Mqtt)
    sender.topic = "line/1"
    sender._client = SimpleNamespace(is_connected=lambda: True, publish=lambda *_, **__: lost)
    with pytest.raises(OSError, match="not currently connected"):
        sender.send(ROW)


class Kept:
    """A receiver that is always there."""

    name = "webhook"

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, row: Row) -> None:
        self.got.append(row.path)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("offset", [3, 10**6])
def test_a_journal_that_was_begun_anew_is_delivered_from_its_start(offset: int, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "webhook.delivered").write_text(str(offset))
    receiver = Kept()
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True)
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, senders=[receiver])
    assert receiver.got == [row.path for row in rows(tmp_path / "out")] and len(receiver.got) == 2


def test_rows_are_delivered_where_nothing_can_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stlm_hub.line.outbox._keep", full)
    with Journal(tmp_path) as journal:
        receiver = Kept()
        outbox = Outbox(tmp_path, receiver, print)
        outbox.start()
        for _ in range(2):
            journal.append(ROW)
        outbox.wake()
        assert outbox.stop() and len(receiver.got) == 2


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """While it lasts, no file of this process grows beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_it_with_a_sentence_and_the_rows_before_are_whole(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 5)
    with full_disk(700), pytest.raises(DataError, match=r"verdicts\.jsonl cannot be written .*; free the disk"):
        watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True)
    assert 1 <= len(rows(tmp_path / "out")) < 5
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True)
    assert len(rows(tmp_path / "out")) == 5
    table = CsvFile(tmp_path / "rows.csv", tmp_path / "none")
    with full_disk(300), pytest.raises(DataError, match=r"rows\.csv cannot be written"):
        for _ in range(10):
            table.add(ROW)
    table.close()


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("rtsp://camera/live?user=a&password=secret&channel=2", "rtsp://camera/live?user=a&password=...&channel=2"),
        ("rtsp://me:p@ss@10.0.0.1/1", "rtsp://10.0.0.1/1"),
        ("http://10.0.0.1/a@b", "http://10.0.0.1/a@b"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_no_part_of_a_password_is_shown(address: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "_open", lambda self: SimpleNamespace(isOpened=lambda: True))
    assert Camera(address, (), 1.0, print).label == label


def test_a_folder_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    write_photographs(photos, 1)
    list_images, looks, said = folder_module.list_images, iter(range(10)), list[str]()

    def listed(folder: Path, *, recursive: bool) -> list[Path]:
        if next(looks) < 2:
            raise ImageError(f"The folder {folder} cannot be read: gone.")
        return list_images(folder, recursive=recursive)

    monkeypatch.setattr(folder_module, "list_images", listed)
    found: list[Row] = []
    output = tmp_path / "out"
    watch(model(), str(photos), output, on_row=found.append, say=said.append, stopped=lambda: bool(found))
    assert len(rows(output)) == 1
    assert said == [
        f"The folder {photos} cannot be read: gone. It is looked at again until it can be.",
        f"The folder {photos} can be read again.",
    ]
    monkeypatch.setattr(folder_module, "list_images", lambda *_, **__: listed(photos, recursive=False))
    looks = iter(range(10))
    with pytest.raises(ImageError, match="gone"):
        list(FolderSource(photos, (), once=True).frames(lambda: False))


def test_a_system_that_reports_no_changes_is_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observers = pytest.importorskip("watchdog.observers")

    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(observers.Observer, "start", full)
    monkeypatch.setattr(folder_module, "RESCAN", 0.1)
    photos, said = tmp_path / "photos", list[str]()
    write_photographs(photos, 1)
    source = FolderSource(photos, (), say=said.append)
    frames = source.frames(lambda: False)
    assert next(frames).path.endswith("part_0.png")
    frames.close()
    assert said == [f"{photos} reports no changes (inotify watch limit reached); it is looked at every 0 s."]


def test_rows_of_another_threshold_do_not_count_as_drift(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 3)

    class Counted(Drift):
        seen = 0

        def add(self, row: Row) -> str | None:
            self.seen += 1
            return super().add(row)

    for threshold, seen in ((None, 3), (None, 3), (0.75, 0)):
        judge = model()
        drift = Counted(judge.judging)
        watch(judge, str(tmp_path / "photos"), tmp_path / "out", once=True, drift=drift, threshold=threshold)
        assert drift.seen == seen


def test_a_copy_that_keeps_the_time_of_change_is_waited_for(tmp_path: Path) -> None:
    (whole,) = write_photographs(tmp_path / "camera", 1)
    photographs = tmp_path / "photos"
    photographs.mkdir()
    data, copy = whole.read_bytes(), photographs / "part.png"

    def write() -> None:
        for end in (len(data) // 3, 2 * len(data) // 3, len(data)):
            copy.write_bytes(data[:end])
            os.utime(copy, (0, 0))
            time.sleep(0.3)

    watch_while(write, photographs, tmp_path / "out")
    assert [(row.verdict, row.error) for row in rows(tmp_path / "out")] == [("pass", None)]


def test_a_verdict_counts_where_its_picture_cannot_be_kept(tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 2)

    class Displaced(Rejects):
        def open(self) -> None:
            self.folder.touch()  # a file is in its place: nothing can be written there

    rejects = Displaced(tmp_path / "rejects", 10**6)
    watch(model(0.9), str(tmp_path / "photos"), tmp_path / "out", once=True, rejects=rejects)
    found = rows(tmp_path / "out")
    assert [(row.verdict, row.picture) for row in found] == [("reject", None)] * 2
    assert all(row.note is not None and row.note.startswith("Its picture is not kept: ") for row in found)
