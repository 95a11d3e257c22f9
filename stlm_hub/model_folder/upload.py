"""Files -> a repository of the Hub, in one commit; what the Hub refuses is told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoUrl
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not marked so

from ..errors import HubError
from .hub_answers import explain, explain_upload, hub_errors


def check_repo_id(repo_id: str) -> None:
    """Raises HubError where a name cannot be that of a repository, "org/repo". The Hub is not asked."""
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("the organisation is missing")
    except HFValidationError as error:
        raise HubError(explain(error, repo_id)) from error


def commit(api: HfApi, repo: RepoUrl, files: dict[str, Path], stale: Sequence[str]) -> str:
    """Writes `files` (by their path in the repository) and deletes `stale`, in one commit, and returns its 40-hex name.

    Unchanged files are left out, and without a change the last commit stands.

    Raises:
        HubError: the Hub does not accept the front matter of README.md.
    """
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
    operations += [CommitOperationAdd(name, path) for name, path in files.items()]
    message = "Publish with stlm_hub"
    try:
        return str(api.create_commit(repo.repo_id, operations, commit_message=message, repo_type=repo.repo_type).oid)
    except ValueError as error:
        if "README.md" not in str(error):
            raise
        raise HubError(f"The Hub does not accept the card, correct it ({' '.join(str(error).split())}).") from error


@contextmanager
def write_errors(repo_id: str, endpoint: str, revision: str | None = None) -> Iterator[None]:
    """`hub_errors` where something is uploaded to `endpoint`: whoever may not write is told how to log in."""
    with hub_errors(repo_id, revision):
        try:
            yield
        except LocalTokenNotFoundError as error:
            raise HubError(_login(repo_id)) from error
        except Exception as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
                raise HubError(_login(repo_id)) from error
            if sentence := explain_upload(error, repo_id, endpoint):
                raise HubError(sentence) from error
            raise


def _login(repo_id: str) -> str:
    return (
        f"The Hub does not let you write to {repo_id}; log in with `hf auth login` or pass --token, with write access."
    )
