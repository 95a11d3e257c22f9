"""Why the page cannot be served, as a sentence that says what to do."""

from __future__ import annotations

import errno
import socket


def why_not_served(error: OSError, address: str, port: int) -> str:
    """The reason of an error of `launch`; Gradio calls a port taken whatever kept it from serving there."""
    if "empty port" in str(error):
        error = _refused(address, port) or OSError(errno.EADDRINUSE, "Address already in use")
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use; choose another one with GRADIO_SERVER_PORT={port + 1}."
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename is None:
        return f"You may not serve port {port} ({reason}); choose one above 1023 with GRADIO_SERVER_PORT=7860."
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{address} is no address of this machine ({reason}); name one with GRADIO_SERVER_NAME=127.0.0.1."
    where = f" ({error.filename})" if error.filename else ""
    return f"The page cannot be served at {address}, port {port}: {reason}{where}. Mend that and start it again."


def _refused(address: str, port: int) -> OSError | None:
    """What the system says to serving there; None: nothing."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
            tried.listen()
    except OSError as error:
        return error
    return None
