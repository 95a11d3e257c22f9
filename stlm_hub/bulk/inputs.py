"""The photographs that an INPUT names: a folder, a glob, or a list in CSV or Parquet, local or remote."""

from __future__ import annotations

import csv
import glob
import io
import os
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from ..errors import DataError, ImageError
from ..predict.images import SUFFIXES, list_images
from ..validate import expanded
from .places import filesystem, is_remote, local

COLUMN = "path"
LISTS = (".csv", ".parquet")


def find_photographs(source: str) -> list[str]:
    """Absolute paths or addresses of all photographs, each once, always in the same order.

    Args:
        source: path or address of a folder (with its subfolders), of one photograph or of a list, or a glob (`**` for
            subfolders). A list is a CSV or Parquet file whose column `path` holds addresses or paths; relative paths
            start at the folder of the list.

    Raises:
        DataError: the source does not exist, cannot be read, or names no photograph; a list has no column `path`.
    """
    source = local(source)
    found = _remote(source) if is_remote(source) else _local(source)
    unique = list(dict.fromkeys(found))
    if not unique:
        raise DataError(
            f"{source} holds no photographs; pass a folder, a glob or a list of {', '.join(sorted(SUFFIXES))} files."
        )
    return unique


def _local(source: str) -> Iterable[str]:
    """`find_photographs` for a path or glob of this machine; a photograph may come twice."""
    path = expanded(source).absolute()
    try:
        if path.is_dir():
            return map(str, list_images(path, recursive=True))
        if path.suffix.lower() in LISTS and path.is_file():
            with path.open("rb") as file:
                return [_place(entry, str(path.parent)) for entry in _entries(file, path.name)]
        if path.is_file():
            return [str(path)]
        if glob.has_magic(source):
            return _of_glob(path)
    except (OSError, ImageError) as error:
        raise DataError(f"{source} cannot be read ({error}); check the path and its rights.") from None
    raise DataError(f"There is no {source}; pass a folder, a glob, or a list in CSV or Parquet.")


def _of_glob(pattern: Path) -> list[str]:
    """Photographs that match, and those in folders that match. One that several links lead to comes once."""
    if "**" in pattern.parts:  # glob would follow links in circles
        start = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
        matches = re.compile(glob_translate(pattern.as_posix())).match
        return [
            str(path)
            for path in list_images(start, recursive=True)
            if any(matches(candidate.as_posix()) for candidate in (path, *path.parents))
        ]
    path_of: dict[str, str] = {}  # resolved path -> path as it matched, the one without links if there is one
    resolved: dict[str, str] = {}  # of each folder
    for path in _matches(pattern):
        folder, name = os.path.split(path)
        real = resolved.setdefault(folder, os.path.realpath(folder))
        place = f"{real}/{name}"
        if place not in path_of or folder == real:
            path_of[place] = path
    return sorted(path_of.values())


def _matches(pattern: Path) -> Iterator[str]:
    """Photographs that match a glob without `**`, and those in folders that match it."""
    for name in sorted(glob.glob(str(pattern))):  # noqa: PTH207  # Path.glob takes no absolute one
        match = Path(name)
        if match.is_dir():
            yield from map(str, list_images(match, recursive=True))
        elif match.suffix.lower() in SUFFIXES:
            yield name


def _remote(source: str) -> Iterable[str]:
    """`find_photographs` for an address; a photograph may come twice."""
    system, path = filesystem(source)
    try:
        if PurePosixPath(path).suffix.lower() in LISTS and system.isfile(path):
            base = source.rpartition("/")[0]
            return [_place(entry, base) for entry in _entries(io.BytesIO(system.cat_file(path)), source)]
        if glob.has_magic(path):
            names = [name for match in sorted(system.glob(path)) for name in _files(system, match)]
        else:
            names = _files(system, path)
    except Exception as error:  # each protocol's package raises errors of its own
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{source} cannot be read ({reason}); check the address and your access.") from None
    return [str(system.unstrip_protocol(name)) for name in names]


def _files(system: Any, path: str) -> list[str]:
    """The photographs at and below a path of a file system, in order; hidden files and folders are left out."""
    names = system.find(path) if system.isdir(path) else [path] if system.isfile(path) else []
    inside = len(PurePosixPath(path).parts)
    return sorted(
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in PurePosixPath(name).parts[inside:])
    )


def _entries(file: IO[bytes], name: str) -> Iterator[str]:
    """Yields the column `path` of a list.

    Raises:
        DataError: the file is no such list.
    """
    try:
        yield from _of_csv(file, name) if name.lower().endswith(".csv") else _of_parquet(file, name)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name} cannot be read as a list ({reason}); write it anew, with a column {COLUMN}.") from None


def _of_csv(file: IO[bytes], name: str) -> Iterator[str]:
    reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
    _check_column(reader.fieldnames or (), name)
    for number, line in enumerate(reader, start=1):
        yield _checked(line[COLUMN], number, name)


def _of_parquet(file: IO[bytes], name: str) -> Iterator[str]:
    table = pq.ParquetFile(file)
    _check_column(table.schema_arrow.names, name)
    number = 0
    for batch in table.iter_batches(columns=[COLUMN]):
        for value in batch.column(0).to_pylist():
            number += 1
            yield _checked(value, number, name)


def _check_column(names: Iterable[str], name: str) -> None:
    if COLUMN not in names:
        columns = ", ".join(list(names)[:8]) or "none"
        raise DataError(f'{name} has no column "{COLUMN}" (its columns: {columns}); name the column of paths so.')


def _checked(value: object, number: int, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"Row {number} of {name} has no path; correct it or leave it out.")
    return value


def _place(entry: str, base: str) -> str:
    """An entry of a list in the folder or at the address `base` -> absolute path or address."""
    entry = local(entry)
    if is_remote(entry):
        return entry
    if is_remote(base):
        return f"{base}/{entry}"
    return str(Path(base) / expanded(entry))
