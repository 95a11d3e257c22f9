"""Folders for visitors' files are new, separate, and disappear when they are too old."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stlm_page.scratch import Scratch


def aged(folder: Path, seconds: float) -> Path:
    (folder / "photograph.png").write_bytes(b"pixels")
    os.utime(folder, (time.time() - seconds, time.time() - seconds))
    return folder


def test_folders_are_empty_and_differ() -> None:
    scratch = Scratch()
    folders = [scratch.folder() for _ in range(5)]
    assert len(set(folders)) == 5
    assert all(folder.is_dir() and not any(folder.iterdir()) for folder in folders)
    assert len({folder.parent for folder in folders}) == 1


def test_a_new_folder_removes_those_that_are_too_old_with_what_is_in_them() -> None:
    scratch = Scratch(max_age=100)
    old, young = scratch.folder(), scratch.folder()
    aged(old, 101)
    aged(young, 90)
    new = scratch.folder()
    assert not old.exists()
    assert (young / "photograph.png").is_file() and new.is_dir()


def test_two_scratches_do_not_clean_up_after_each_other() -> None:
    one, other = Scratch(max_age=100), Scratch(max_age=100)
    old = aged(one.folder(), 1000)
    other.folder()
    assert old.exists()


def test_folders_outlive_the_longest_training() -> None:
    scratch = Scratch()
    running = aged(scratch.folder(), 2 * 3600 + 600)
    scratch.folder()
    assert running.exists()
