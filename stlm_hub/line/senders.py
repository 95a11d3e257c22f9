"""Where rows can go besides the journal: a CSV file, a webhook, an MQTT broker."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import http.client
import io
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from ..errors import ConfigError, DataError
from ..files.spreadsheet import harmless
from .journal import read_rows
from .row import COLUMNS, Row

TIMEOUT = 10.0
"""Seconds that a receiver may take for one row."""


class CsvFile:
    """A table with the same rows as the journal. Opening it cuts off a half-written line and adds missing ones.

    Args:
        path: of the CSV file.
        journal: path of the journal.

    Raises:
        DataError: the file cannot be written, or is no table of `stlm watch`.
    """

    def __init__(self, path: Path, journal: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._path = path
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
        lines = list(csv.reader(io.StringIO(whole.decode("utf-8"))))
        self._columns = len(lines[0]) if lines else len(COLUMNS)  # a table of an earlier version has fewer
        if not whole:
            self._write(COLUMNS)
        for number, (_, row) in enumerate(read_rows(journal)):
            if number >= len(lines) - 1:
                self.add(row)

    def add(self, row: Row) -> None:
        """Writes one row.

        Raises:
            DataError: the disk is full or gone.
        """
        self._write(dataclasses.astuple(row))

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # half a row is left; `add` has raised for it
            self._file.close()

    def _write(self, values: tuple[Any, ...]) -> None:
        text = io.StringIO()
        cells = [" ".join(value.split()) if isinstance(value, str) else value for value in values]  # a row is a line
        csv.writer(text, lineterminator="\n").writerow([harmless(cell) for cell in cells[: self._columns]])
        try:
            self._file.write(text.getvalue().encode())
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{self._path} cannot be written ({error.strerror}); free the disk and start again."
            ) from None


def _is_table(data: bytes) -> bool:
    """Whether a file begins with `COLUMNS`, or with the first of them, as a table of an earlier version does."""
    columns = ",".join(COLUMNS).encode()
    first, end, _ = data.partition(b"\n")
    return columns.startswith(first) and (not end or columns[len(first) :][:1] in (b",", b""))


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None: it has no host, no valid port, or bytes that are no text."""
    try:
        url.encode()
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _ascii(parts: SplitResult) -> str | None:
    """An address as HTTP sends it: its host by IDNA, what else is not ASCII in percent; None: its host is no name.

    What stands in percent already stays.
    """
    try:
        host = str(parts.hostname).encode("idna").decode()
        path, query = (quote(text, safe="/%:@!$&'()*+,;=?~") for text in (parts.path, parts.query))
    except UnicodeError:
        return None
    if not re.fullmatch(r"[\w.:%-]+", host):
        return None
    place = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    return urlunsplit((parts.scheme, place + port, path, query, ""))


def _is_topic(text: str) -> bool:
    """Whether MQTT takes this as the topic of a row: + and # are wildcards of subscribers, a row goes to one topic."""
    return bool(re.fullmatch(r"[^+#\x00]+", text)) and len(text.encode()) <= 65535


def _shown(url: str) -> str:
    """An address for a message: without user and password, at most 100 characters."""
    return f"{re.sub(r'//.*@', '//', url)!r:.100}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: urllib would follow it with a GET, which is answered but carries no row."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: urllib raises HTTPError."""


class Webhook:
    """POSTs each row as JSON with its id in the header Idempotency-Key. Any answer of 200 to 299 is a success.

    Args:
        url: http:// or https:// address; what is not ASCII in it is encoded.

    Raises:
        ConfigError: it is no such address, or contains a user.
    """

    name = "webhook"

    def __init__(self, url: str) -> None:
        parts = _split(url)
        refused = parts is None or parts.scheme not in ("http", "https") or parts.username is not None
        address = None if parts is None or refused else _ascii(parts)
        if address is None:
            raise ConfigError(f"A webhook is an http:// or https:// address without a user, not {_shown(url)}.")
        self.url = address
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, row: Row) -> None:
        """Sends one row.

        Raises:
            OSError: the receiver is away or answers with another status.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": row.id}
        body = row.to_json().encode("ascii")
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - __init__ checked it
        try:
            with self._opener.open(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            error.close()
            where = error.headers.get("Location")
            raise OSError(f"HTTP {error.code}" + (f" to {where:.100}" if where else "")) from None
        except http.client.HTTPException as error:  # what answers there does not speak HTTP
            raise OSError(repr(error)) from None

    def close(self) -> None:
        """Does nothing: each row has a connection of its own."""


class Mqtt:
    """Publishes each row as JSON with quality of service 1: the broker confirms every row.

    Args:
        url: mqtt://[user@]host[:port]/topic, or mqtts:// with TLS. `STLM_MQTT_PASSWORD` holds the password.

    Raises:
        ConfigError: it is no such address, or the broker refuses or is away at the start.
        DataError: paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(self, url: str) -> None:
        parts = _split(url)
        self.topic = "" if parts is None else parts.path.lstrip("/")
        if parts is None or parts.scheme not in ("mqtt", "mqtts") or "#" in url or not _is_topic(self.topic):
            raise ConfigError(f"A broker is given as mqtt://host/topic or mqtts://host/topic, not {_shown(url)}.")
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise DataError(f'MQTT needs {error.name}: pip install "stlm_hub[line]"') from None
        import threading

        answered = threading.Event()
        self._refusal: str | None = None

        def connected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self._refusal = str(reason) if reason.is_failure else None
            answered.set()

        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = connected
        if parts.username:
            password = os.environ.get("STLM_MQTT_PASSWORD", unquote(parts.password or "") or None)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        host, port = str(parts.hostname), parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        where = f"{host}:{port}"
        try:
            self._client.connect(host, port, keepalive=30)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The broker {where} cannot be reached ({error}); start it or check the address."
            ) from None
        self._client.loop_start()
        answered.wait(TIMEOUT)
        if self._refusal or not answered.is_set():
            self.close()
            answer = self._refusal or "no answer"
            raise ConfigError(f"The broker {where} refuses ({answer}); check the user and STLM_MQTT_PASSWORD.")

    def send(self, row: Row) -> None:
        """Publishes one row. The client connects again by itself.

        Raises:
            OSError: the broker is away or does not confirm in time.
        """
        if not self._client.is_connected():
            raise OSError("the broker is away" if self._refusal is None else f"the broker refuses: {self._refusal}")
        try:
            message = self._client.publish(self.topic, row.to_json(), qos=1)
            message.wait_for_publish(TIMEOUT)
            confirmed = message.is_published()
        except (RuntimeError, ValueError) as error:  # the connection was lost meanwhile
            raise OSError(str(error)) from None
        if not confirmed:
            raise OSError("the broker does not confirm")

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()
