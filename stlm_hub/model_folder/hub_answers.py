"""What the Hub answers: asked again where it is busy, refused where it is hostile, a sentence where it says no."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import HubError, STLMError
from .names import ALWAYS

TIMEOUT = 10.0  # seconds until a silent Hub counts as out of reach
WAITS = (0.5, 2.0)
"""Seconds before the second and the third attempt, where the Hub does not say how long to wait."""
LONGEST_WAIT = 10.0

HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]
"""Base class of everything that the HTTP client raises; its package differs between versions of huggingface_hub."""

_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.ENOSPC, errno.EDQUOT)
"""What a cache that cannot be written says."""
_PATHS = ("etag", "x-linked-etag", "x-repo-commit")
"""Headers that the Hub's client makes names of files in its cache of."""
_NAME = re.compile(r"[^/\\:\0]{1,200}")

T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """What the Hub answers; one that is busy (HTTP 429, 5xx) is asked again after a pause, a silent one once.

    Raises:
        Exception: what the last attempt raised.
    """
    for wait in WAITS:
        try:
            return ask()
        except HTTPError as error:
            if not _may_pass(error, first=wait == WAITS[0]):
                raise
            time.sleep(_asked_to_wait(error) or wait)
    return ask()


def _may_pass(error: Exception, *, first: bool) -> bool:
    if isinstance(error, HfHubHTTPError):
        return is_out_of_reach(error)
    return first and type(error).__name__ in ("ReadTimeout", "WriteTimeout", "RemoteProtocolError")


def _asked_to_wait(error: Exception) -> float:
    """Seconds of the header Retry-After; 0: there is none."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    asked = error.response.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if re.fullmatch(r"\d{1,6}", asked) else 0.0


@contextmanager
def hub_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Turns whatever the Hub's client raises into a HubError with a sentence, and refuses hostile answers."""
    hooks = get_session().event_hooks["response"]
    if _refuse_paths not in hooks:
        hooks.append(_refuse_paths)
    try:
        yield
    except STLMError:
        raise
    except Exception as error:
        raise HubError(explain(error, repo_id, revision)) from error


def explain(error: Exception, repo_id: str, revision: str | None = None) -> str:
    """The sentence for an error of the Hub's client."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    login = "log in with `hf auth login` or give a token"
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated: accept its terms at {constants.ENDPOINT}/{repo_id}, then {login}."
    if isinstance(error, DisabledRepoError):
        return f"{repo_id} was disabled on the Hub; use another model."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no model {repo_id} at {constants.ENDPOINT}, or it is private: check the name, or {login}."
    if isinstance(error, RevisionNotFoundError):
        return f'{repo_id} has no revision "{revision}"; give a branch, a tag or a commit that it has.'
    if isinstance(error, RemoteEntryNotFoundError):
        return f"A file of {repo_id} is missing on the Hub; a model has {', '.join(ALWAYS)}."
    if isinstance(error, OfflineModeIsEnabled):
        return f"{repo_id} is not in the cache and HF_HUB_OFFLINE is set; unset it once to download the model."
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is None:
        return f"{repo_id} is not in the cache; load it once without local_files_only to download it."
    if isinstance(error, HFValidationError):
        return f'"{repo_id}" is not the name of a repository; give it as "org/repo".'
    if status in (401, 403):
        return f"The Hub refuses access to {repo_id} (HTTP {status}): {login} that is allowed to."
    if status == 429:
        return "The Hub is asked too often from here (HTTP 429); wait a few minutes and try again."
    if is_out_of_reach(error) or isinstance(error, LocalEntryNotFoundError):
        answer = f"answers with HTTP {status}" if status else "is out of reach"
        return (
            f"{constants.ENDPOINT} {answer} and {repo_id} is not in the cache: check the network or the proxy, or try "
            "again later."
        )
    kept = (constants.HF_HOME, constants.HF_HUB_CACHE)
    if isinstance(error, OSError) and error.errno in _DISK and str(error.filename or kept[0]).startswith(kept):
        place = f" ({error.filename})" if error.filename else ""
        return (
            f"The Hub's files are kept in {constants.HF_HOME}, which cannot be used{place}: {error.strerror}. Set "
            "HF_HOME to a folder with room that you may write."
        )
    detail = " ".join(str(error).split())[:200]
    return f"{repo_id} cannot be had from the Hub ({type(error).__name__}: {detail}); try again."


def explain_upload(error: Exception, repo_id: str, endpoint: str) -> str | None:
    """The sentence for an upload that did not reach the Hub; None where it did, or where that is not known."""
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so {repo_id} cannot be uploaded; unset it and give the same command again."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if not is_out_of_reach(error) or status == 429:
        return None
    answer = f"answers with HTTP {status}" if status else "is out of reach"
    return (
        f"{repo_id} is not uploaded: {endpoint} {answer}. Check the network or the proxy and give the same command "
        "again; what has arrived is not sent twice."
    )


def _refuse_paths(response: Any) -> None:
    """Raises HubError for an answer whose headers would lead the client out of its cache.

    It stays with the client, whose other users lose nothing by it: only answers to HEAD become names.
    """
    if response.request.method != "HEAD":
        return
    for name in _PATHS:
        value = response.headers.get(name)
        if value is not None and (".." in value or not _NAME.fullmatch(value.removeprefix("W/").strip('"'))):
            raise HubError(
                f"{response.url.host} answers with {name} {value[:80]!r}, which the Hub never does; nothing was "
                "downloaded. Check HF_ENDPOINT and the proxy."
            )


def is_out_of_reach(error: Exception) -> bool:
    """Whether what is in the cache is used instead: the Hub is down, or will not answer now."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, (HTTPError, OfflineModeIsEnabled))
