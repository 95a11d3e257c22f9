"""A watched folder: what costs a look, what does not, and that nothing is overlooked."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from drawn import write_photographs
from watched import model, rows, wait_for

from stlm_hub.line import folder as module
from stlm_hub.line.changes import Changes
from stlm_hub.line.folder import FolderSource
from stlm_hub.line.watch import watch

Folders = tuple[Path, Path]
"""Photographs and output."""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Three photographs, and where their rows go."""
    write_photographs(tmp_path / "photos", 3)
    return tmp_path / "photos", tmp_path / "out"


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the whole folder is listed. Without need that is once, at the start."""
    pytest.importorskip("watchdog")
    times: list[float] = []
    list_images = module.list_images

    def counted(folder: Path, *, recursive: bool) -> list[Path]:
        times.append(time.monotonic())
        return list_images(folder, recursive=recursive)

    monkeypatch.setattr(module, "list_images", counted)
    monkeypatch.setattr(module, "RESCAN", 1000.0)
    return times


@contextmanager
def watching(photographs: Path, output: Path, expected: int) -> Iterator[None]:
    """Watches a folder; at the end there must be so many rows, and no more half a second later."""
    ended = threading.Event()
    line = threading.Thread(
        target=watch, args=(model(), str(photographs), output), kwargs={"stopped": ended.is_set}, daemon=True
    )
    line.start()
    try:
        yield
        wait_for(lambda: len(rows(output)) >= expected)
        time.sleep(0.5)
    finally:
        ended.set()
        line.join(30)
    assert len(rows(output)) == expected and not any(row.error for row in rows(output))


def names(output: Path) -> list[str]:
    return [Path(row.path).name for row in rows(output)]


def test_a_file_that_others_read_is_not_looked_at(folders: Folders, listings: list[float]) -> None:
    photographs, output = folders
    looks: list[Path] = []
    with pytest.MonkeyPatch.context() as patch, watching(photographs, output, 3):
        wait_for(lambda: len(rows(output)) == 3)
        complete = FolderSource._complete
        patch.setattr(FolderSource, "_complete", lambda self, path: looks.append(path) or complete(self, path))
        for _ in range(20):
            (photographs / "part_0.png").read_bytes()
            time.sleep(0.02)
        time.sleep(0.5)
        assert not looks and len(listings) == 1


def rename(photographs: Path, whole: Path) -> None:
    (photographs / "part_9.tmp").write_bytes(whole.read_bytes())
    (photographs / "part_9.tmp").rename(photographs / "part_9.png")


def overwrite(photographs: Path, whole: Path) -> None:
    (photographs / "part_1.png").write_bytes(whole.read_bytes())


def new_time(photographs: Path, whole: Path) -> None:
    os.utime(photographs / "part_1.png", (10**9, 10**9))


def new_folder(photographs: Path, whole: Path) -> None:
    (photographs / "a" / "b").mkdir(parents=True)
    (photographs / "a" / "b" / "part_9.png").write_bytes(whole.read_bytes())


def folder_moved_in(photographs: Path, whole: Path) -> None:
    whole.parent.rename(photographs / "c")


def folder_renamed(photographs: Path, whole: Path) -> None:
    new_folder(photographs, whole)
    time.sleep(0.1)
    (photographs / "a").rename(photographs / "d")


@pytest.mark.parametrize("change", [rename, overwrite, new_time, new_folder, folder_moved_in, folder_renamed])
def test_a_new_photograph_gets_its_row_without_a_look_at_all_others(
    change: Callable[[Path, Path], None], folders: Folders, listings: list[float], tmp_path: Path
) -> None:
    photographs, output = folders
    (whole,) = write_photographs(tmp_path / "camera", 1)
    with watching(photographs, output, 4):
        wait_for(lambda: len(rows(output)) == 3)
        change(photographs, whole)
    assert len(listings) == 1


def test_a_folder_that_a_link_leads_to_reports_its_changes(
    folders: Folders, listings: list[float], tmp_path: Path
) -> None:
    photographs, output = folders
    (tmp_path / "link").symlink_to(photographs)
    with watching(tmp_path / "link", output, 4):
        wait_for(lambda: len(rows(output)) == 3)
        rename(photographs, photographs / "part_0.png")
    assert rows(output)[3].path == str(tmp_path / "link" / "part_9.png") and len(listings) == 1


def test_photographs_that_come_together_are_judged_in_natural_order_and_hidden_ones_not(
    folders: Folders, listings: list[float], tmp_path: Path
) -> None:
    photographs, output = folders
    data = (photographs / "part_0.png").read_bytes()
    (photographs / ".thumbs").mkdir()
    with watching(photographs, output, 6):
        wait_for(lambda: len(rows(output)) == 3)
        for name in (".thumbs/part_1.png", ".part_4.png", "part_30.png", "part_4.png", "part_5.txt", "part_20.png"):
            (photographs / name).write_bytes(data)
    assert names(output)[3:] == ["part_4.png", "part_20.png", "part_30.png"] and len(listings) == 1


def test_a_share_that_does_not_answer_a_look_does_not_end_it(
    folders: Folders, listings: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, output = folders
    lstat, failed = Path.lstat, list[Path]()

    def flaky(path: Path) -> os.stat_result:
        if path.name == "part_9.png" and not failed:
            failed.append(path)
            raise OSError(errno.EHOSTDOWN, "Host is down")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", flaky)
    monkeypatch.setattr(module, "RESCAN", 3.0)
    with watching(photographs, output, 4):
        wait_for(lambda: len(rows(output)) == 3)
        rename(photographs, photographs / "part_0.png")
    assert failed


def test_what_no_event_tells_is_found_by_the_next_listing(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs, output = folders
    monkeypatch.setattr(Changes, "start", lambda self: None)
    monkeypatch.setattr(module, "RESCAN", 0.2)
    with watching(photographs, output, 4):
        wait_for(lambda: len(rows(output)) == 3)
        rename(photographs, photographs / "part_0.png")


def test_events_of_other_files_do_not_make_a_file_complete(
    folders: Folders, listings: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is ahead, as on a network share whose clock is: only its rest tells that it is complete."""
    monkeypatch.setattr(module, "SETTLE", 1.0)
    photographs, output = folders
    data = (photographs / "part_0.png").read_bytes()
    ahead = time.time() + 1000
    with watching(photographs, output, 4):
        wait_for(lambda: len(rows(output)) == 3)
        for end in (len(data) // 3, len(data) // 2, len(data)):
            (photographs / "part_9.png").write_bytes(data[:end])
            os.utime(photographs / "part_9.png", (ahead, ahead))
            for i in range(6):
                (photographs / f"{end}_{i}.txt").touch()
                time.sleep(0.05)
    assert names(output)[3:] == ["part_9.png"]


def test_an_unfinished_photograph_that_is_taken_away_does_not_hold_up_the_end(tmp_path: Path) -> None:
    (path,) = write_photographs(tmp_path / "photos", 1)
    source = FolderSource(tmp_path / "photos", (), once=True)

    def stopped() -> bool:
        if source._unfinished:
            path.unlink(missing_ok=True)
        return False

    assert list(source.frames(stopped)) == []
