"""Changes of a model folder: whole or not at all, and back again."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stlm_hub.errors import ConfigError
from stlm_hub.files import whole
from stlm_hub.model_folder import versions
from stlm_hub.model_folder.versions import (
    add,
    added,
    change,
    history_of,
    read_one_version,
    replace,
    settle,
    stamp,
    undo,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three files, of version 0."""
    folder = tmp_path / "part"
    folder.mkdir()
    for name in ("calibration.json", "patch_memory.safetensors", "config.json"):
        (folder / name).write_text("0")
    return folder


def to(version: str, *names: str) -> Callable[[Path], None]:
    """Writes these files of a version."""

    def write(new: Path) -> None:
        for name in names or ("calibration.json", "patch_memory.safetensors"):
            (new / name).write_text(version)

    return write


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for place in added(folder) for path in place.iterdir()}


@contextmanager
def cut_off(moment: int, *steps: tuple[object, str]) -> Iterator[None]:
    """An interruption in place of the step of this number; each call of one of these functions is a step."""
    done = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done == moment:
                raise KeyboardInterrupt
            return function(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        for owner, name in steps:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


def test_a_change_replaces_some_files_and_keeps_the_earlier_ones(folder: Path, tmp_path: Path) -> None:
    change(folder, to("1"))
    assert held(folder) == {"calibration.json": "1", "config.json": "0", "patch_memory.safetensors": "1"}
    (kept,) = history_of(folder).iterdir()
    assert held(kept) == {".removed": "", "calibration.json": "0", "patch_memory.safetensors": "0"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "part.history"]  # no part of one is left


def test_each_undo_goes_one_version_back(folder: Path) -> None:
    before = held(folder)
    change(folder, to("1"))
    change(folder, to("2", "calibration.json"))
    assert held(folder)["calibration.json"] == "2"
    undo(folder)
    assert held(folder) == {"calibration.json": "1", "config.json": "0", "patch_memory.safetensors": "1"}
    undo(folder)
    assert held(folder) == before
    with pytest.raises(ConfigError, match="has no earlier version; nothing was changed"):
        undo(folder)
    assert held(folder) == before


def test_what_a_change_brought_goes_when_it_is_taken_back(folder: Path) -> None:
    before = held(folder)
    change(folder, to("1", "calibration.json", "results.json"))  # the folder had no results, which would be of another
    assert held(folder)["results.json"] == "1"
    undo(folder)
    assert held(folder) == before


def test_what_was_added_and_what_was_changed_are_taken_back_in_their_order(folder: Path) -> None:
    before = held(folder)
    add(folder, to("a", "one.png"))
    change(folder, to("1"))
    add(folder, to("b", "two.png", "three.png"))
    assert kept(folder) == {"one.png": "a", "two.png": "b", "three.png": "b"} and held(folder)["config.json"] == "0"
    assert undo(folder) == ["three.png", "two.png"]
    assert kept(folder) == {"one.png": "a"} and held(folder)["calibration.json"] == "1"
    assert undo(folder) == []
    assert kept(folder) == {"one.png": "a"} and held(folder) == before
    assert undo(folder) == ["one.png"]
    assert kept(folder) == {} and held(folder) == before
    with pytest.raises(ConfigError, match="has no earlier version; nothing was changed"):
        undo(folder)


@pytest.mark.parametrize("moment", range(1, 9))
@pytest.mark.parametrize("work", ["add", "undo"])
def test_what_is_added_is_whole_or_not_there_wherever_it_is_cut_off(folder: Path, work: str, moment: int) -> None:
    one, two = {"one.png": "a"}, {"two.png": "b", "three.png": "b"}
    add(folder, to("a", "one.png"))
    if work == "undo":
        add(folder, to("b", *two))
    with cut_off(moment, *((Path, name) for name in ("mkdir", "write_text", "rename")), (shutil, "rmtree")):
        if work == "undo":
            undo(folder)
        else:
            add(folder, to("b", *two))
    found = kept(folder)
    assert found in (one, one | two)
    add(folder, to("c", "last.png"))
    assert kept(folder) == found | {"last.png": "c"} and undo(folder) == ["last.png"] and kept(folder) == found
    assert undo(folder) == sorted(two if two.keys() <= found.keys() else one)


def test_more_than_ten_versions_are_taken_back_in_their_order(folder: Path) -> None:
    for version in range(1, 13):
        change(folder, to(str(version)))
    for version in range(11, -1, -1):
        undo(folder)
        assert held(folder)["calibration.json"] == str(version)


def test_a_change_that_fails_leaves_everything_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = held(folder)

    def fails(new: Path) -> None:
        to("1")(new)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change(folder, fails)
    assert held(folder) == before and [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_change_that_was_cut_off_after_it_counted_is_finished(folder: Path) -> None:
    (folder / ".next").mkdir()
    to("1", "patch_memory.safetensors")(folder / ".next")
    (folder / "calibration.json").write_text("1")  # the first file was moved already
    settle(folder)
    assert held(folder) == {"calibration.json": "1", "config.json": "0", "patch_memory.safetensors": "1"}
    settle(folder)
    assert "patch_memory.safetensors" in held(folder)


def test_a_change_that_was_cut_off_before_it_counted_is_no_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder, to("1"))
    rename = Path.rename

    def cut_off(self: Path, target: Path) -> Path:
        if target.name == ".next":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", cut_off)
        change(folder, to("2"))
    assert held(folder)["calibration.json"] == "1"
    undo(folder)  # not the version that was kept for the change that never was
    assert held(folder)["calibration.json"] == "0"


def test_what_cannot_be_written_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(ConfigError, match=r"cannot be changed \(Permission denied\)"):
        patch.setattr("shutil.copyfile", refuse)
        change(folder, to("1"))
    assert held(folder)["calibration.json"] == "0"


@pytest.mark.parametrize("moment", range(1, 9))
def test_a_folder_that_is_replaced_holds_one_model_wherever_it_is_cut_off(folder: Path, moment: int) -> None:
    """The new model has no memory; a step is a rename or a removal."""
    with cut_off(moment, *((Path, name) for name in ("replace", "rename", "unlink"))):
        replace(folder, to("1", "calibration.json", "config.json"), whole=True)
    settle(folder)
    old = {"calibration.json": "0", "config.json": "0", "patch_memory.safetensors": "0"}
    assert held(folder) == (old if moment == 1 else {"calibration.json": "1", "config.json": "1"})


def test_a_disk_that_is_full_leaves_the_earlier_model(folder: Path) -> None:
    def write(new: Path) -> None:
        (new / "config.json").write_text("1")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = held(folder)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\); free space"):
        replace(folder, write, whole=True)
    assert held(folder) == before


def test_a_version_of_an_earlier_model_does_not_come_back_into_a_new_one(folder: Path) -> None:
    """Its memory and thresholds beside other weights would be no model, and nothing would say so."""
    versions.change(folder, lambda new: (new / "calibration.json").write_text("accepted"))
    versions.add(folder, lambda new: (new / "defect.png").write_text("a defect"))
    versions.replace(folder, lambda new: (new / "config.json").write_text("trained again"), whole=True)
    assert [path.name for kept in versions.added(folder) for path in kept.iterdir()] == ["defect.png"]
    assert versions.undo(folder) == ["defect.png"]
    with pytest.raises(ConfigError, match="has no earlier version"):
        versions.undo(folder)
    assert (folder / "config.json").read_text() == "trained again"


def test_a_removal_names_only_files_of_models(folder: Path, tmp_path: Path) -> None:
    """A folder from a stranger may come with a change that was "cut off"."""
    (tmp_path / "mine.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    following = folder / ".next"
    following.mkdir()
    (following / ".removed").write_text("../mine.txt\nnotes.txt\nconfig.json\n")
    settle(folder)
    assert held(folder) == {"calibration.json": "0", "notes.txt": "mine", "patch_memory.safetensors": "0"}
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="the system cannot hold a folder")
def test_writers_take_turns_and_a_reader_sees_one_version(tmp_path: Path) -> None:
    folder, stop, names = tmp_path / "part", threading.Event(), ("calibration.json", "config.json", "model.safetensors")

    def write(version: int) -> Callable[[Path], None]:
        return lambda new: [(new / name).write_text(str(version)) for name in names] and None

    def work(how: Callable[[Path, Callable[[Path], None]], None], first: int) -> None:
        for version in itertools.count(first, 2):
            how(folder, write(version))
            if stop.wait(0.02):  # times of files count in ticks of the system, 4 ms and more
                return

    replace(folder, write(0), whole=True)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(work, lambda f, w: replace(f, w, whole=True), 1), pool.submit(work, change, 2)]
        seen: set[str] = set()
        try:
            until = time.monotonic() + 60
            while len(seen) <= 3 and time.monotonic() < until:
                found = read_one_version(folder, lambda: [(folder / name).read_text() for name in names])
                assert len(set(found)) == 1, found
                seen.add(found[0])
        finally:
            stop.set()
        for writer in writers:
            writer.result(30)
    assert len(seen) > 3


def test_a_change_of_what_was_changed_meanwhile_is_refused(folder: Path) -> None:
    since = stamp(folder)
    change(folder, lambda new: (new / "config.json").write_text("2") and None, since=since)
    with pytest.raises(ConfigError, match=r"has changed .* meanwhile; give the command again"):
        change(folder, lambda new: (new / "config.json").write_text("3") and None, since=since)
    assert (folder / "config.json").read_text() == "2"


def test_a_folder_that_changes_at_each_reading_is_a_sentence(folder: Path) -> None:
    def read() -> None:
        (folder / "other").write_text("x")
        (folder / "other").replace(folder / "config.json")

    with pytest.raises(ConfigError, match="is being changed all the time"):
        read_one_version(folder, read)


def test_a_folder_that_another_process_holds_for_long_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "held", lambda folder: whole.held(folder, 0.05))
    with whole.held(folder), pytest.raises(ConfigError, match="Another process is changing"):
        change(folder, lambda new: None)
