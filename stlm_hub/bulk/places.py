"""Files and folders on this machine, or at an address that fsspec supports (`s3://`, `gs://`, `hf://`, ...)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from ..errors import DataError, ImageError
from ..predict.images import Picture, read_picture
from ..predict.picture_file import MAX_FILE_BYTES

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "adl": "adlfs"}
"""Names on PyPI of the packages of some protocols; for the others fsspec's own message names the package."""


def is_remote(place: str) -> bool:
    """Whether this is an address and not a path of this machine."""
    return "://" in place


def local(place: str) -> str:
    """A `file://` address as a path; anything else unchanged."""
    scheme, separator, rest = place.partition("://")
    return rest if separator and scheme in ("file", "local") else place


def filesystem(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it.

    Raises:
        DataError: the protocol is unknown, or its package is not installed.
    """
    protocol = address.partition("://")[0]
    if "::" in address:
        raise DataError(f"{address} chains protocols, which is not supported; unpack it, or give a list of addresses.")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(protocol) or error.name
        todo = f"pip install {package}" if package else " ".join(str(error).split())
        raise DataError(f"{protocol}:// needs a package that is not installed: {todo}") from None
    except ValueError as error:
        raise DataError(
            f"{address} cannot be opened ({error}); give a path, or s3://, gs://, hf:// and so on."
        ) from None
    return found


def read_photograph(place: str, bits: int | None = None) -> Picture:
    """The picture at a path or an address; `bits` as of `read_picture`.

    Raises:
        ImageError: it cannot be read, or is no photograph.
    """
    if not is_remote(place):
        return read_picture(Path(place), bits=bits)
    name = place.rpartition("/")[2]
    try:
        system, path = filesystem(place)
        data = system.cat_file(path, start=0, end=MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"There is no file {place}; check the path.") from None
    except Exception as error:  # each protocol's package raises errors of its own
        raise ImageError(f"{place} cannot be read ({' '.join(str(error).split())[:200]}).") from None
    return read_picture(data, name=name, bits=bits)
