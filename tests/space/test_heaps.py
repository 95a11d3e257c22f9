from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from stlm_page.heaps import share_heaps


def test_threads_share_heaps_where_the_c_library_knows_how(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    glibc = SimpleNamespace(mallopt=lambda *setting: asked.append(setting))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: glibc)
    share_heaps()
    assert asked == [(-8, 2)]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # as on macOS
    share_heaps()
