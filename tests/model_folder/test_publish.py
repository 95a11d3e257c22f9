"""What `publish` does to a folder before it is uploaded. The upload itself is tried in test_hub_end_to_end.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stlm_hub.errors import HubError
from stlm_hub.model_folder.publish import publish


@pytest.fixture
def folder(saved_model: Path, tmp_path: Path) -> Path:
    made = tmp_path / "part"
    shutil.copytree(saved_model, made)
    (made / "results.json").write_text(json.dumps({"repo_id": "your-name/part"}))
    card = (made / "README.md").read_text()
    (made / "README.md").write_text(card + '\nmodel = STLM.from_pretrained("your-name/part")\n')
    return made


def test_the_card_names_the_repository_that_the_model_goes_to(folder: Path) -> None:
    with pytest.raises(HubError, match="out of reach"):  # a port where nobody listens
        publish(folder, "org/stlm-part", token="x", endpoint="http://127.0.0.1:9")
    card = (folder / "README.md").read_text()
    assert 'from_pretrained("org/stlm-part")' in card and "your-name" not in card
