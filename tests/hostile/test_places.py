"""Names and files that a system has besides ordinary ones: links, pipes, endless devices, names of any length."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest
from fuzz.outcome import peak_memory
from hostile.mutations import refused
from huggingface_hub import constants

import stlm_hub
from stlm_hub.model_folder import hub
from stlm_hub.model_folder.publish import check_folder
from stlm_hub.model_folder.zoo import check_name
from stlm_hub.stlm import STLM

pytestmark = [
    pytest.mark.usefixtures("toy_streams"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names"),
]
T = TypeVar("T")

JSON = ("config.json", "calibration.json", "results.json")
TENSORS = ("model.safetensors", "patch_memory.safetensors", "familiarity.safetensors")
NAMES = (
    *(
        "x" * 300,
        "org/" + "x" * 300,
        "./" + "x/" * 3000,
        "y" * 300 + "@main",
        "nul\0",
        "~nobody-here/x",
        "~nobody-here",
    ),
    *("org/repo@../../X", "org/../X", "../../etc", "org/repo/../..", "\ud800", "mvtec-bottle\n", "x@" * 200, "."),
    *("https://huggingface.co/org/repo", "file:///etc", "con", "a\\b", "models/none", " ", "-m", "~nobody-here"),
)


def soon(action: Callable[[], T]) -> T:
    """What it returns or raises, in a thread of its own, which must end within 10 s."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(10)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_names_end_in_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert refused(lambda: STLM.from_pretrained(name))
    assert refused(lambda: stlm_hub.load(name))
    monkeypatch.setenv("STLM_ZOO_DIR", str(tmp_path))
    assert refused(lambda: STLM.from_pretrained(name))
    refused(lambda: check_name(name))


@pytest.mark.parametrize("name", [*JSON, *TENSORS])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom", "folder", "circle", "dangling"])
def test_what_is_no_ordinary_file_neither_hangs_nor_fills_the_memory(
    name: str, kind: str, saved_memory_toy: Path, tmp_path: Path
) -> None:
    folder, before = shutil.copytree(saved_memory_toy, tmp_path / "model"), peak_memory()
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path.symlink_to(kind if kind.startswith("/") else tmp_path / "nowhere")
    if name != "results.json":  # which nobody needs to judge
        assert soon(lambda: refused(lambda: STLM.from_pretrained(folder, device="cpu")))
        assert soon(lambda: refused(lambda: stlm_hub.load(folder, device="cpu")))
    soon(lambda: hub.results_of(hub.resolve(folder)))
    assert soon(lambda: refused(lambda: check_folder(folder)))
    assert peak_memory() - before < 200_000_000


def test_a_folder_that_is_a_link_is_a_folder(saved_memory_toy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved_memory_toy)
    assert STLM.from_pretrained(tmp_path / "link").name == "link"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert refused(lambda: STLM.from_pretrained(tmp_path / "circle"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "file"])
def test_a_change_that_is_none_of_ours_is_a_sentence_or_nothing(
    kind: str, saved_memory_toy: Path, tmp_path: Path
) -> None:
    """`.next` counts as a change that was cut off: a strange one must lead nowhere outside the folder."""
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    (tmp_path / "private").write_text("stays")
    (folder / ".next").mkdir()
    if kind == "pipe":
        os.mkfifo(folder / ".next" / ".removed")
    elif kind == "folder":
        (folder / ".next" / ".removed").mkdir()
    else:
        (folder / ".next" / ".removed").write_text("../private\nconfig.json/../../private\n/etc/hostname\n")
    soon(lambda: refused(lambda: STLM.from_pretrained(folder, device="cpu")))
    assert (tmp_path / "private").read_text() == "stays"


def test_the_command_answers_strange_names_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    os.mkfifo(tmp_path / "part" / "config.json")
    (tmp_path / "part" / "model.safetensors").touch()
    for model in ("x" * 300, str(tmp_path / "part")):
        done = subprocess.run(
            [sys.executable, "-m", "stlm_hub.cli.main", "predict", "x.png", "--model", model],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr and "Error:" in done.stderr, done.stderr
