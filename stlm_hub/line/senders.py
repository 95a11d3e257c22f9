"""Where rows can go besides the journal: a CSV file, a webhook, an MQTT broker."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, DataError
from ..files.spreadsheet import harmless
from .journal import read_rows
from .row import COLUMNS, Row

TIMEOUT = 10.0
"""Seconds that a receiver may take for one row."""


class CsvFile:
    """A table that is always the journal's: after a kill, a half-written line is cut off and missing ones are added.

    Args:
        path: of the file.
        journal: whose rows it holds.

    Raises:
        DataError: it cannot be written, or is somebody else's.
    """

    def __init__(self, path: Path, journal: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error.strerror}); name another file.") from None
        self._file.seek(0)
        data = self._file.read()
        if path.resolve() == journal.resolve() or not _is_table(data):
            self._file.close()
            raise DataError(f"{path} is no table of stlm watch; name another file for --csv.")
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        there = list(csv.reader(io.StringIO(whole.decode("utf-8"))))
        self._columns = len(there[0]) if there else len(COLUMNS)  # of an earlier version, fewer
        if not whole:
            self._write(COLUMNS)
        for number, (_, row) in enumerate(read_rows(journal)):
            if number >= len(there) - 1:
                self.add(row)

    def add(self, row: Row) -> None:
        """Writes one row."""
        self._write(dataclasses.astuple(row))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, values: tuple[Any, ...]) -> None:
        text = io.StringIO()
        cells = [" ".join(value.split()) if isinstance(value, str) else value for value in values]  # a row is a line
        csv.writer(text, lineterminator="\n").writerow([harmless(cell) for cell in cells[: self._columns]])
        self._file.write(text.getvalue().encode())
        self._file.flush()


def _is_table(data: bytes) -> bool:
    """Whether a file begins as a table of this or an earlier version, which had the first of these columns."""
    columns = ",".join(COLUMNS).encode()
    first, end, _ = data.partition(b"\n")
    return columns.startswith(first) and (not end or columns[len(first) :][:1] in (b",", b""))


class Webhook:
    """POSTs each row as JSON; the header Idempotency-Key holds its id. Any answer of 200 to 299 counts.

    Raises:
        ConfigError: it is no HTTP address.
    """

    name = "webhook"

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(f"A webhook is an http:// or https:// address, not {url!r:.100}.")
        self.url = url

    def send(self, row: Row) -> None:
        """Raises OSError where the receiver is away or answers otherwise."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": row.id}
        body = row.to_json().encode("ascii")
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - __init__ saw the scheme
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"HTTP {error.code}") from None

    def close(self) -> None:
        """Nothing is held open."""


class Mqtt:
    """Publishes each row as JSON with quality of service 1: the broker confirms each.

    Args:
        url: mqtt://[user@]host[:port]/topic, or mqtts:// with TLS. `STLM_MQTT_PASSWORD` holds the password.

    Raises:
        ConfigError: it is no such address, or the broker refuses or is away at the start.
        DataError: paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.topic = parts.path.lstrip("/")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not self.topic or set(self.topic) & set("+#"):
            raise ConfigError(f"A broker is given as mqtt://host/topic or mqtts://host/topic, not {url!r:.100}.")
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
        except ImportError as error:
            raise DataError(f'MQTT needs {error.name}: pip install "stlm_hub[line]"') from None
        import threading

        self._success, answered = MQTTErrorCode.MQTT_ERR_SUCCESS, threading.Event()
        refusal: list[str] = []

        def connected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                refusal.append(str(reason))
            answered.set()

        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = connected
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), os.environ.get("STLM_MQTT_PASSWORD", parts.password))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        where = f"{parts.hostname}:{parts.port or (8883 if parts.scheme == 'mqtts' else 1883)}"
        try:
            self._client.connect(parts.hostname, int(where.rpartition(":")[2]), keepalive=30)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The broker {where} cannot be reached ({error}); start it or check the address."
            ) from None
        self._client.loop_start()
        answered.wait(TIMEOUT)
        if refusal or not answered.is_set():
            self.close()
            said = refusal[0] if refusal else "no answer"
            raise ConfigError(f"The broker {where} refuses ({said}); check the user and STLM_MQTT_PASSWORD.")

    def send(self, row: Row) -> None:
        """Raises OSError where the broker does not confirm in time; the client connects again by itself."""
        if not self._client.is_connected():
            raise OSError("the broker is away")
        message = self._client.publish(self.topic, row.to_json(), qos=1)
        try:
            if message.rc == self._success:
                message.wait_for_publish(TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise OSError(str(error)) from None
        if not message.is_published():
            raise OSError("the broker does not confirm")

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()
