"""MQTT with a real broker: it takes every row, is killed and comes back, refuses.

Debian's package mosquitto has it. Its sessions and rows are on the disk, so that a reader misses nothing meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from drawn import write_photographs
from watched import model, rows, wait_for

from stlm_hub.cli.main import main
from stlm_hub.errors import ConfigError
from stlm_hub.line import senders
from stlm_hub.line.senders import Mqtt
from stlm_hub.line.watch import watch

PATH = os.environ["PATH"] + ":/usr/sbin"
PROGRAM, PASSWORDS = (shutil.which(name, path=PATH) for name in ("mosquitto", "mosquitto_passwd"))
pytestmark = pytest.mark.skipif(PROGRAM is None or PASSWORDS is None, reason="mosquitto is not installed")


class Broker:
    """A broker at one address that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.settings = folder / "mosquitto.conf"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}/line/1"
        self.settings.write_text(
            f"listener {self.port} 127.0.0.1\nuser {getuser()}\npersistence true\npersistence_location {folder}/\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        """Returns when it listens.

        Args:
            settings: further lines of its file, on who may connect.
        """
        file = self.settings.with_name("now.conf")
        file.write_text(self.settings.read_text() + "\n".join(settings or ("allow_anonymous true",)) + "\n")
        self.process = subprocess.Popen([str(PROGRAM), "-c", str(file)], stderr=subprocess.DEVNULL)
        wait_for(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def send(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.send(number)
            self.process.wait()
            self.process = None

    def asks_for(self, user: str, password: str) -> list[str]:
        """Settings with which only this user may connect."""
        file = self.settings.with_name("passwords")
        subprocess.run([str(PASSWORDS), "-b", "-c", str(file), user, password], check=True, capture_output=True)
        return ["allow_anonymous false", f"password_file {file}"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "broker")
    yield found
    found.end(signal.SIGKILL)


class Reader:
    """Reads a topic. The broker keeps for it what comes while it is away."""

    def __init__(self, broker: Broker) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.ids: list[str] = []
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("line/1", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.ids.append(json.loads(message.payload)["id"])
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert subscribed.wait(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def in_order(ids: list[str]) -> list[str]:
    """Each id once: at least once is promised, so one that was on its way when the broker fell may come twice."""
    return list(dict.fromkeys(ids))


def test_a_broker_gets_every_row(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        Mqtt(broker.url)
    broker.start()
    reader = Reader(broker)
    write_photographs(tmp_path / "photos", 3)
    watch(model(), str(tmp_path / "photos"), tmp_path / "out", once=True, senders=[Mqtt(broker.url)])
    wait_for(lambda: len(reader.ids) >= 3)
    reader.close()
    assert reader.ids == [row.id for row in rows(tmp_path / "out")]


@pytest.mark.parametrize("how", ["ended", "killed", "killed with a row on its way"])
def test_rows_that_come_while_the_broker_is_away_reach_it_when_it_is_back(
    how: str, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "TIMEOUT", 2.0)
    broker.start()
    reader = Reader(broker)
    broker.end()  # it keeps the reader's session on the disk
    broker.start()
    photographs, output, said = tmp_path / "photos", tmp_path / "out", list[str]()
    write_photographs(photographs, 2)
    ended, sender = threading.Event(), Mqtt(broker.url)
    line = threading.Thread(
        target=watch,
        args=(model(), str(photographs), output),
        kwargs={"senders": [sender], "say": said.append, "stopped": ended.is_set},
    )
    line.start()
    try:
        wait_for(lambda: len(reader.ids) == 2)
        if how == "killed with a row on its way":
            broker.send(signal.SIGSTOP)  # it takes what is sent and answers nothing
        else:
            broker.end(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        write_photographs(photographs, 5)  # over the two; they are new photographs
        wait_for(lambda: len(rows(output)) == 7)
        wait_for(lambda: len(said) == 1)
        assert len(reader.ids) == 2
        broker.end(signal.SIGKILL)
        broker.start()
        wait_for(lambda: len(in_order(reader.ids)) == 7, 60)
        wait_for(lambda: len(said) == 2)
    finally:
        ended.set()
        line.join(30)
        reader.close()
    assert in_order(reader.ids) == [row.id for row in rows(output)]
    lost, back = said
    assert lost.startswith("Rows do not reach mqtt (") and lost.endswith("); they wait and are sent again.")
    assert back == "The rows that waited have reached mqtt."


def test_rows_wait_for_a_broker_that_comes_back_and_refuses(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    sender = Mqtt(broker.url)
    broker.end(signal.SIGKILL)
    broker.start(*broker.asks_for("line", "secret"))
    wait_for(lambda: sender._refusal is not None)
    row: Any = None  # it is not looked at
    with pytest.raises(OSError, match="the broker refuses: Not authorized"):
        sender.send(row)
    sender.close()


@pytest.mark.usefixtures("toy_streams")
def test_a_broker_that_refuses_ends_the_command_before_it_watches(
    broker: Broker,
    saved_toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broker.start(*broker.asks_for("line", "secret"))
    write_photographs(tmp_path / "photos", 1)
    before = sorted(tmp_path.rglob("*"))

    def watched(user: str, password: str) -> tuple[int, str]:
        url = broker.url.replace("//", f"//{user}")
        options = ["-m", saved_toy, "-o", tmp_path / "out", "--rejects", tmp_path / "rejects", "--once", "--mqtt", url]
        monkeypatch.setattr(sys, "argv", ["stlm", "watch", *map(str, [tmp_path / "photos", *options])])
        monkeypatch.setenv("STLM_MQTT_PASSWORD", password)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), " ".join(capsys.readouterr().err.split())

    for user, password in (("", ""), ("line@", "wrong")):
        code, said = watched(user, password)
        assert code == 1 and sorted(tmp_path.rglob("*")) == before
        assert f"{broker.port} refuses (Not authorized); check the user and STLM_MQTT_PASSWORD." in said
    assert watched("line@", "secret")[0] == 0 and len(rows(tmp_path / "out")) == 1
