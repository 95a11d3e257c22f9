"""What keeps the page from being served is said."""

from __future__ import annotations

import errno
import socket

import pytest

from stlm_page.launch import why_not_served

GRADIOS = OSError("Cannot find empty port in range: 7860-7860. You can specify a different port by setting ...")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = why_not_served(GRADIOS, "127.0.0.1", port)
    assert said == f"Port {port} is in use; choose another one with GRADIO_SERVER_PORT={port + 1}."


@pytest.mark.parametrize("address", ["192.0.2.1", "no-such-machine.invalid"])
def test_an_address_of_another_machine_is_no_port_in_use(address: str) -> None:
    said = why_not_served(GRADIOS, address, 7860)
    assert said.startswith(f"{address} is no address of this machine (") and "GRADIO_SERVER_NAME=127.0.0.1" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EACCES, "Permission denied"), "You may not serve port 80 (Permission denied)"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/gradio"),
            "port 80: No space left on device (/tmp/gradio).",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "port 80: Too many open files."),
        (OSError("share link"), "port 80: share link."),
    ],
)
def test_another_error_is_said_as_what_it_is(error: OSError, words: str) -> None:
    said = why_not_served(error, "127.0.0.1", 80)
    assert words in said and "in use" not in said
