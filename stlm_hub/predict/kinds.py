"""The kind of a file by its first bytes: HEIC pictures, and pointers that lie in the place of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import PurePath

from ..errors import ImageError
from ..wording import number_of

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
"""Suffixes of the pictures that phones take, in lower case."""
INSTALL_HEIC = 'pip install "stlm_hub[heic]"'

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_POINTERS = {  # first bytes of a file that stands for another one
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"version https://hawser.github.com/spec/": ("a Git LFS pointer", "git lfs pull"),
    b"/annex/objects/": ("a git-annex pointer", "git annex get"),
}
BEGINNING = 48
"""Bytes of a file that `check_kind` needs."""


def reads_heic() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def is_heic(start: bytes) -> bool:
    """Whether a file with these first bytes is a HEIC picture. AVIF, of the same family, is not read."""
    compatible = [start[at : at + 4] for at in range(16, min(len(start), int.from_bytes(start[:4], "big")), 4)]
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS and b"avif" not in compatible


def check_kind(start: bytes, name: str) -> None:
    """Refuses a file that is known to be no picture, or that cannot be read here.

    Args:
        start: the first `BEGINNING` bytes of the file.
        name: of the picture, for the error.

    Raises:
        ImageError: it is a pointer, or a HEIC picture and pillow-heif is not installed.
    """
    for beginning, (what, command) in _POINTERS.items():
        if start.startswith(beginning):
            raise ImageError(f"{name} is {what} and not the picture; `{command}` gets the pictures.")
    if is_heic(start) and not reads_heic():
        raise ImageError(f"{name} is a HEIC picture, as phones make them: {INSTALL_HEIC}, or save it as JPEG.")


def left_out(paths: Sequence[PurePath]) -> str:
    """A sentence on HEIC files among these that cannot be read; "": there are none."""
    if reads_heic():
        return ""
    count = sum(path.suffix.lower() in HEIC_SUFFIXES for path in paths)
    return f"{number_of(count, 'HEIC file is', 'HEIC files are')} left out: {INSTALL_HEIC}" if count else ""
