"""What a model may be written over, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.model_folder.folder import FILES, check_output


@pytest.mark.parametrize(
    "names", [(), FILES, ("model.safetensors",), ("config.json", "scores.png"), (".DS_Store", ".config.json.part")]
)
def test_nothing_or_an_earlier_model_may_be_written_over(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    check_output(tmp_path, ("scores.png",))
    check_output(tmp_path / "new")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("README.md",), "README.md"),
        ((*FILES, "photo.jpg"), "photo.jpg"),
        ((*FILES, "scores.png"), "scores.png"),
        (("results.json", "README.md"), "README.md"),
    ],
)
def test_anything_else_may_not(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"already holds {told}; name a new folder"):
        check_output(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ConfigError, match="is a file; name a new folder"):
        check_output(tmp_path / "model")
