"""Photographs inside zip archives: each archive is parsed once, each of its photographs is read by its place."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stlm_hub.errors import DataError, ImageError
from stlm_hub.predict.images import SUFFIXES

MAX_MEMBERS = 10_000  # of all archives of an upload, photographs or not
MAX_DIRECTORY_BYTES = 2 * 2**20  # of one archive's list of members; it is parsed in half a second
_CHUNK = 2**20
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # a chunk of the other kinds can unpack to gigabytes


class _TooMany(Exception):
    """The list of members is too long to be read."""


class _File(io.FileIO):
    """An archive that is read in pieces. `zipfile` reads its list of members in one, before it knows their number."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = MAX_DIRECTORY_BYTES  # the end of the archive
        if size > MAX_DIRECTORY_BYTES:
            raise _TooMany
        return super().read(size) or b""


@dataclass(frozen=True)
class Member:
    """A photograph in an open archive. Two of one name are two photographs."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def read(self, limit: int) -> bytes:
        """Its bytes, at most `limit` or a chunk more, by what is unpacked and not by the size that the archive claims.

        Raises:
            ImageError: it is damaged, encrypted or compressed in a way that has no bound.
        """
        name = self.info.filename
        try:
            if self.info.compress_type not in _BOUNDED:
                raise NotImplementedError
            with self.archive.open(self.info) as file:
                chunks, total = [], 0
                while total < limit and (chunk := file.read(_CHUNK)):
                    chunks.append(chunk)
                    total += len(chunk)
            return b"".join(chunks)
        except NotImplementedError:
            raise ImageError(
                f"{name} is compressed in a way that is not read here; pack it as an ordinary zip archive."
            ) from None
        except RuntimeError:
            raise ImageError(f"{name} is encrypted; pack the archive again without a password.") from None
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise ImageError(f"{name} is damaged inside its archive ({error}); pack it again.") from None
        except Exception as error:  # zlib and lzma errors have no common base
            raise ImageError(f"{name} cannot be unpacked ({type(error).__name__}); pack it again.") from None


def photographs(path: Path, name: str, at_most: int = MAX_MEMBERS) -> tuple[list[Member], int]:
    """The photographs of an archive, sorted by name, and how many members it has in all.

    The archive stays open as long as one of its photographs is held.

    Args:
        path: of the archive.
        name: what its visitor calls it.
        at_most: members that it may have.

    Raises:
        DataError: it is no archive, has too many members, or no photographs.
    """
    too_many = DataError(f"{name} holds more than {at_most:,} files; pack the photographs alone, fewer at a time.")
    try:
        archive = zipfile.ZipFile(_File(path))
    except _TooMany:
        raise too_many from None
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        raise DataError(f"{name} is not a zip archive that can be read; pack it again.") from None
    members = archive.infolist()
    if len(members) > at_most:
        raise too_many
    found = sorted(filter(_is_photograph, members), key=lambda info: info.filename)
    if not found:
        raise DataError(f"{name} holds no photographs; pack PNG, JPEG, WebP, BMP or TIFF files into it.")
    return [Member(archive, info) for info in found], len(members)


def _is_photograph(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not info.is_dir() and not hidden and path.suffix.lower() in SUFFIXES
