"""What visitors upload: single files and zip archives, as (name, source) pairs that the image decoder can be given."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from stlm_hub.errors import DataError, ImageError
from stlm_hub.predict.images import SUFFIXES
from stlm_hub.predict.picture_file import MAX_FILE_BYTES

from .archives import MAX_MEMBERS, Member, photographs

MAX_PHOTOGRAPHS = 500
MAX_UNPACKED_BYTES = 2 * 10**9  # of all photographs of one upload together
MAX_NAME = 200  # characters of a visitor's name for a file
_HASH = re.compile(r"[0-9a-f]{64}")  # names Gradio's folder of each file


@dataclass(frozen=True)
class Upload:
    """One photograph that was uploaded: its name as the visitor knows it, and how to get at its bytes."""

    name: str
    path: Path
    member: Member | None = None  # inside the zip archive at `path`

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: the file is damaged, encrypted or too large.
        """
        limit = MAX_FILE_BYTES + 1
        if self.member is not None:
            data = self.member.read(limit)
        else:
            try:
                with self.path.open("rb") as file:
                    data = file.read(limit)
            except OSError:
                raise ImageError(f"{self.name} is no longer kept here; upload it again.") from None
        if len(data) > MAX_FILE_BYTES:
            raise ImageError(f"{self.name} has more than {MAX_FILE_BYTES // 10**6} MB; scale the picture down first.")
        return data


def file_field(label: str, elem_id: str) -> gr.File:
    """Where visitors drop photographs and archives."""
    return gr.File(
        label=label,
        file_count="multiple",
        file_types=[*SUFFIXES, ".zip"],
        type="filepath",
        elem_id=elem_id,
        height=180,
    )


def uploaded_name(file: Any) -> str:
    """What the visitor calls an uploaded file. `file` is Gradio's file data; "photograph" where it says nothing."""
    said = file.get("orig_name") or Path(str(file.get("path"))).name if isinstance(file, Mapping) else ""
    return _writable(str(said)[-MAX_NAME:]) or "photograph"


def _writable(name: str) -> str:
    """A name without halves of characters, which no answer can hold."""
    return name.encode("utf-8", "replace").decode()


def uploaded_path(file: Any) -> Path:
    """Where an uploaded file is on this machine: the only way from what a request says to a file that is read.

    Only files of the page's cache are given out: what a visitor has uploaded, or was shown here. Each lies in a
    folder that is named by a keyed hash of its bytes. So its path is a secret of who has uploaded it, or has the same
    file. Gradio does not note which session a file came from, and checks paths only where a request asks it to.

    Args:
        file: Gradio's file data, as it came out of the request: `path`, `orig_name`.

    Raises:
        ImageError: it is no such file. The sentence is the same whether the path exists or not.
    """
    refused = ImageError(f"{uploaded_name(file)} is not among the files that are kept here; add it again.")
    given = file.get("path") if isinstance(file, Mapping) else None
    if not isinstance(given, str):
        raise refused
    cache = Path(get_upload_folder())
    path, real = Path(given), cache.resolve()
    inside = next((path.relative_to(root).parts for root in (cache, real) if path.is_relative_to(root)), ())
    if len(inside) != 2 or not _HASH.fullmatch(inside[0]) or inside[1] == "..":  # nothing is looked up outside
        raise refused
    try:
        found = path.resolve(strict=True)
        if found != real.joinpath(*inside) or not stat.S_ISREG(found.stat().st_mode):  # a link leads elsewhere
            raise refused
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    return found


def uploads(files: Sequence[Mapping[str, Any]] | None) -> list[Upload]:
    """Every photograph of an upload, archives unfolded, in order.

    Args:
        files: Gradio's file data, see `uploaded_path`.

    Raises:
        ImageError: one of them was not uploaded here.
        DataError: there is none, there are too many, or an archive is no archive.
    """
    found: list[Upload] = []
    unpacked, members = 0, MAX_MEMBERS
    for file in files or []:
        path, name = uploaded_path(file), uploaded_name(file)
        if path.suffix.lower() == ".zip":
            packed, count = photographs(path, name, members)
            members -= count
            unpacked += sum(member.info.file_size for member in packed)
            found.extend(Upload(_writable(member.info.filename), path, member) for member in packed)
        else:
            found.append(Upload(name, path))
        if unpacked > MAX_UNPACKED_BYTES:
            raise DataError(f"{name} holds more than {MAX_UNPACKED_BYTES / 10**9:g} GB of photographs; split it.")
        if len(found) > MAX_PHOTOGRAPHS:
            raise DataError(
                f"These are more than {MAX_PHOTOGRAPHS} photographs; upload fewer at a time, or use `stlm predict` on "
                "your own computer, which has no limit."
            )
    if not found:
        raise DataError(
            "There are no photographs yet: add PNG, JPEG, WebP, BMP or TIFF files, or a zip archive of them."
        )
    return found
