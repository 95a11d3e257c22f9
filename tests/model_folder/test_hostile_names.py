"""Names of models that lead nowhere, or out of the cache."""

from __future__ import annotations

import pytest

from stlm_hub.errors import HubError, STLMError
from stlm_hub.model_folder.hub import resolve


@pytest.mark.parametrize("name", ["org/repo@../../X", "org/repo@a/../../b", "org/repo@..//etc", "mvtec-screw@../x"])
def test_a_revision_is_no_path(name: str) -> None:
    with pytest.raises(HubError, match="is no revision; give a branch, a tag or a commit"):
        resolve(name, local_files_only=True)


@pytest.mark.parametrize(
    "name", ["x" * 300, "org/" + "x" * 300, "./" + "x/" * 3000, "nul\0", "~nobody-here/x", "x@" * 200]
)
def test_names_that_the_system_refuses_are_a_sentence(name: str) -> None:
    with pytest.raises(STLMError):
        resolve(name, local_files_only=True)
