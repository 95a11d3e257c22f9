"""Files and archives of visitors: what counts as a photograph, in which order, and what is refused with a sentence."""

from __future__ import annotations

import gc
import re
import struct
import time
import warnings
import weakref
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from stlm_hub.errors import DataError, ImageError
from stlm_page import uploads as module
from stlm_page.uploads import Upload, uploaded_name, uploaded_path, uploads

pytestmark = pytest.mark.usefixtures("page_cache")

NOISE = bytes(range(256)) * 40


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def sent(*paths: Path) -> list[dict[str, Any]]:
    """Copies of files where an upload leaves them, as a handler is given them."""
    return [{"path": save_file_to_cache(path, get_upload_folder()), "orig_name": path.name} for path in paths]


def names(found: list[Upload]) -> list[str]:
    return [upload.name for upload in found]


def is_sentence(error: BaseException) -> bool:
    return re.fullmatch(r"\S.* .*\.", str(error), re.DOTALL) is not None


def patched(path: Path, offset: int, value: bytes, signatures: tuple[bytes, ...] = (b"PK\1\2",)) -> Path:
    """Changes a field of the headers of the only member; `offset` is from a central header's start."""
    data = bytearray(path.read_bytes())
    for signature in signatures:
        at = data.index(signature) + offset - (2 if signature == b"PK\3\4" else 0)
        data[at : at + len(value)] = value
    path.write_bytes(bytes(data))
    return path


def test_half_a_character_in_a_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(NOISE)
    (file,) = sent(tmp_path / "a.png")
    (found,) = uploads([file | {"orig_name": "M\ud83dller.png"}])
    assert found.name == "M?ller.png" and found.read() == NOISE


def test_single_files_keep_order_name_and_bytes(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    first, second = sent(tmp_path / "b.png", tmp_path / "a.jpg")
    found = uploads([{**first, "orig_name": "Teil 1.png"}, {"path": second["path"]}])
    assert names(found) == ["Teil 1.png", "a.jpg"]
    assert [upload.read() for upload in found] == [b"b.png", b"a.jpg"]


def test_archives_unfold_in_place_sorted_by_name(tmp_path: Path) -> None:
    packed = archive(tmp_path / "parts.ZIP", {"line/2.png": b"two", "line/1.TIFF": b"one", "0.webp": b"zero"})
    (tmp_path / "first.png").write_bytes(b"first")
    (tmp_path / "last.png").write_bytes(b"last")
    found = uploads(sent(tmp_path / "first.png", packed, tmp_path / "last.png"))
    assert names(found) == ["first.png", "0.webp", "line/1.TIFF", "line/2.png", "last.png"]
    assert [upload.read() for upload in found] == [b"first", b"zero", b"one", b"two", b"last"]


def test_only_photographs_of_an_archive_count(tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.zip", {"inside.png": b"x"})
    members = {
        "good.png": b"good",
        "inner.zip": inner.read_bytes(),
        "__MACOSX/good.png": b"x",
        "__MACOSX/._good.png": b"x",
        ".hidden.png": b"x",
        ".git/picture.png": b"x",
        "notes.txt": b"x",
        "picture.gif": b"x",
        "folder.png/": b"",
    }
    found = uploads(sent(archive(tmp_path / "parts.zip", members)))
    assert names(found) == ["good.png"] and found[0].read() == b"good"


def test_paths_of_an_archive_are_only_names(tmp_path: Path) -> None:
    members = {"/etc/passwd.png": b"absolute", "a/../../up.png": b"x", "a\\..\\windows.png": b"back"}
    (tmp_path / "deep").mkdir()
    found = uploads(sent(archive(tmp_path / "deep" / "parts.zip", members)))
    here = {path for path in tmp_path.rglob("*") if path.is_file()}
    # "a/../../up.png" counts as hidden.
    assert [(upload.name, upload.read()) for upload in found] == [
        ("/etc/passwd.png", b"absolute"),
        ("a\\..\\windows.png", b"back"),
    ]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == here


@pytest.mark.parametrize("data", [b"", b"not an archive", b"PK\5\6" + bytes(5)])
def test_what_is_no_archive_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "parts.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"parts\.zip is not a zip archive") as raised:
        uploads(sent(tmp_path / "parts.zip"))
    assert is_sentence(raised.value)


def test_an_archive_without_photographs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parts\.zip holds no photographs") as raised:
        uploads(sent(archive(tmp_path / "parts.zip", {"notes.txt": b"x"})))
    assert is_sentence(raised.value)


def test_a_damaged_member_is_refused_when_it_is_read_and_the_others_are_not(tmp_path: Path) -> None:
    packed = archive(tmp_path / "parts.zip", {"bad.png": NOISE, "good.png": b"good"}, zipfile.ZIP_STORED)
    data = packed.read_bytes()
    packed.write_bytes(data.replace(NOISE, NOISE[:-1] + b"?"))
    bad, good = uploads(sent(packed))
    with pytest.raises(ImageError, match=r"bad\.png is damaged inside its archive") as raised:
        bad.read()
    assert is_sentence(raised.value) and good.read() == b"good"


def test_damaged_compressed_data_is_a_sentence(tmp_path: Path) -> None:
    packed = archive(tmp_path / "parts.zip", {"bad.png": NOISE})
    data = bytearray(packed.read_bytes())
    start = data.index(b"bad.png") + len(b"bad.png")
    data[start : start + 8] = b"\xff" * 8
    packed.write_bytes(bytes(data))
    with pytest.raises(ImageError, match=r"bad\.png cannot be unpacked") as raised:
        uploads(sent(packed))[0].read()
    assert is_sentence(raised.value)


def test_an_encrypted_member_is_called_so(tmp_path: Path) -> None:
    packed = patched(archive(tmp_path / "parts.zip", {"part.png": NOISE}), 8, b"\x01\x00", (b"PK\1\2", b"PK\3\4"))
    with pytest.raises(ImageError, match=r"part\.png is encrypted.*without a password") as raised:
        uploads(sent(packed))[0].read()
    assert is_sentence(raised.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_whose_memory_has_no_bound_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int
) -> None:
    packed = archive(tmp_path / "parts.zip", {"bomb.png": bytes(2**20)}, compression)
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ImageError, match=r"bomb\.png is compressed in a way .* ordinary zip archive") as raised:
        uploads(sent(packed))[0].read()
    assert is_sentence(raised.value)


def test_a_compression_that_python_does_not_know_is_not_called_encrypted(tmp_path: Path) -> None:
    packed = patched(archive(tmp_path / "parts.zip", {"part.png": NOISE}), 10, b"\x09\x00", (b"PK\1\2", b"PK\3\4"))
    with pytest.raises(ImageError, match=r"part\.png is compressed in a way"):
        uploads(sent(packed))[0].read()


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path: Path) -> None:
    packed = archive(tmp_path / "parts.zip", {"bomb.png": bytes(30 * 2**20)})
    assert packed.stat().st_size < 2**16
    patched(packed, 24, struct.pack("<I", 1000))
    (upload,) = uploads(sent(packed))
    with pytest.raises(ImageError, match=r"bomb\.png") as raised:
        upload.read()
    assert is_sentence(raised.value)


def test_reading_stops_at_the_limit_by_what_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = archive(tmp_path / "parts.zip", {"large.png": bytes(20 * 2**20), "small.png": bytes(2**20)})
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 2 * 2**20)
    unpacked = 0
    read = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int = -1) -> bytes:
        nonlocal unpacked
        data = read(self, n)
        unpacked += len(data)
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    large, small = uploads(sent(packed))
    with pytest.raises(ImageError, match=r"large\.png has more than 2 MB") as raised:
        large.read()
    assert is_sentence(raised.value) and unpacked <= 3 * 2**20
    assert len(small.read()) == 2**20


def test_a_single_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    (tmp_path / "fits.png").write_bytes(bytes(1000))
    (tmp_path / "large.png").write_bytes(bytes(1001))
    fits, large = uploads(sent(tmp_path / "fits.png", tmp_path / "large.png"))
    assert len(fits.read()) == 1000
    with pytest.raises(ImageError, match=r"large\.png has more than"):
        large.read()


@pytest.mark.parametrize("together", [True, False])
def test_what_all_archives_say_to_hold_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 1500)
    if together:
        packed = [archive(tmp_path / "parts.zip", {"1.png": bytes(1000), "2.png": bytes(1000)})]
    else:
        packed = [archive(tmp_path / f"{n}.zip", {"1.png": bytes(1000)}) for n in ("other", "parts")]
    with pytest.raises(DataError, match=r"parts\.zip holds more than .* GB of photographs") as raised:
        uploads(sent(*packed))
    assert is_sentence(raised.value)
    assert len(uploads(sent(archive(tmp_path / "fits.zip", {"1.png": bytes(1500)})))) == 1


def test_too_many_photographs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PHOTOGRAPHS", 3)
    packed = archive(tmp_path / "parts.zip", {f"{n}.png": b"x" for n in range(3)})
    assert len(uploads(sent(packed))) == 3
    (tmp_path / "more.png").write_bytes(b"x")
    with pytest.raises(DataError, match="more than 3 photographs") as raised:
        uploads(sent(packed, tmp_path / "more.png"))
    assert is_sentence(raised.value)


def test_two_photographs_of_one_name_are_both_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "parts.zip", "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the duplicate
        for data in (b"first", b"second"):
            made.writestr("same.png", data)
    found = uploads(sent(tmp_path / "parts.zip"))
    assert names(found) == ["same.png", "same.png"] and [upload.read() for upload in found] == [b"first", b"second"]


def test_an_archive_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    start = zipfile.ZipFile.__init__

    def counted(self: zipfile.ZipFile, *args: Any, **kwargs: Any) -> None:
        parsed.append(self)
        start(self, *args, **kwargs)

    files = sent(archive(tmp_path / "parts.zip", {f"{n}.png": b"x" for n in range(100)}))
    monkeypatch.setattr(zipfile.ZipFile, "__init__", counted)
    assert [upload.read() for upload in uploads(files)] == [b"x"] * 100
    assert len(parsed) == 1


@pytest.mark.parametrize("count", [10_001, 60_000, 500_000])
def test_an_archive_of_too_many_members_is_refused_before_they_are_counted(tmp_path: Path, count: int) -> None:
    """60,000 members took 0.6 s for each photograph among them, 500,000 take gigabytes once they are parsed."""
    packed = archive(tmp_path / "parts.zip", {"1.png": b"x"}, zipfile.ZIP_STORED)
    data = packed.read_bytes()
    at = data.index(b"PK\1\2")
    entry, end = data[at : data.index(b"PK\5\6")], data[data.index(b"PK\5\6") :]
    end = end[:8] + struct.pack("<HHI", count % 65536, count % 65536, count * len(entry)) + end[16:]
    packed.write_bytes(data[:at] + entry * count + end)
    started = time.process_time()
    with pytest.raises(DataError, match=r"parts\.zip holds more than 10,000 files") as raised:
        uploads(sent(packed))
    assert is_sentence(raised.value) and time.process_time() - started < 5


def test_members_of_all_archives_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 5)
    members = {"1.png": b"x", "a": b"", "b": b""}
    first, second = (archive(tmp_path / f"{name}.zip", members) for name in ("first", "second"))
    assert len(uploads(sent(first))) == 1
    with pytest.raises(DataError, match=r"second\.zip holds more than 2 files"):
        uploads(sent(first, second))


def test_an_archive_is_closed_when_its_photographs_are_gone(tmp_path: Path) -> None:
    (file,) = sent(archive(tmp_path / "parts.zip", {"1.png": b"x"}))
    found = uploads([file])
    opened = weakref.ref(found[0].member.archive.fp)  # type: ignore[union-attr, arg-type]
    assert found[0].read() == b"x" and opened() is not None
    del found
    gc.collect()
    assert opened() is None


@pytest.mark.parametrize("files", [None, []])
def test_an_empty_upload_is_refused(files: list[Any] | None) -> None:
    with pytest.raises(DataError, match="no photographs yet") as raised:
        uploads(files)
    assert is_sentence(raised.value)


@pytest.mark.parametrize("name", ["part.png", "parts.zip"])
def test_a_file_that_the_page_has_deleted_meanwhile_is_a_sentence(tmp_path: Path, name: str) -> None:
    files = sent(archive(tmp_path / name, {"part.png": b"x"}))
    if name == "part.png":
        (upload,) = uploads(files)
        Path(files[0]["path"]).unlink()
        with pytest.raises(ImageError, match=r"part\.png is no longer kept here") as raised:
            upload.read()
        assert is_sentence(raised.value)
    else:
        Path(files[0]["path"]).unlink()
        with pytest.raises(ImageError, match=r"parts\.zip is not among the files that are kept here"):
            uploads(files)


def test_what_was_uploaded_is_found(tmp_path: Path, page_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Teil 1.png").write_bytes(b"pixels")
    (file,) = sent(tmp_path / "Teil 1.png")
    assert uploaded_path(file).read_bytes() == b"pixels" and uploaded_name(file) == "Teil 1.png"
    other_name = tmp_path / "link"  # a cache that is reached over a link, as /tmp is on some systems
    other_name.symlink_to(page_cache)
    over_link = {"path": file["path"].replace(str(page_cache), str(other_name))}
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(other_name))
    assert uploaded_path(over_link) == uploaded_path(file) == Path(file["path"])


def test_no_other_file_is_found_and_none_is_told_from_one_that_is_missing(
    tmp_path: Path, page_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (file,) = sent(tmp_path / "secret.png")
    kept = Path(file["path"])
    (page_cache / "loose.png").write_bytes(b"not in a folder of its own")
    (page_cache / "guess").mkdir()
    (page_cache / "guess" / "secret.png").write_bytes(b"in a folder whose name can be guessed")
    links = page_cache / ("a" * 64)
    links.mkdir()
    (links / "secret.png").symlink_to(tmp_path / "secret.png")
    (links / "loop.png").symlink_to(links / "loop.png")
    (page_cache / ("b" * 64)).symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths = [
        *(tmp_path / "secret.png", tmp_path / "missing.png", page_cache / "loose.png", page_cache / "guess/secret.png"),
        *(links / "secret.png", links / "loop.png", links / "missing.png", page_cache / ("b" * 64) / "secret.png"),
        *(kept.parent, kept.parent / "..", f"{kept.parent}/../../secret.png", f"{kept}/../../../secret.png"),
        *("secret.png", "/etc/passwd", "/dev/zero", "", ".", "/", "a\0b", f"{kept.parent}/a\0b", "a" * 10_000),
        *(f"{kept.parent}/{'a' * 10_000}", f"file://{kept}", f"http://127.0.0.1{kept}", kept.as_posix().upper()),
    ]
    files: list[Any] = [{"path": str(path), "orig_name": "part.png"} for path in paths]
    files += [{"path": value, "orig_name": "part.png"} for value in (None, 3, ["secret.png"], {"path": str(kept)})]
    said = set()
    for each in files:
        with pytest.raises(ImageError) as raised:
            uploaded_path(each)
        said.add(str(raised.value))
    assert said == {"part.png is not among the files that are kept here; add it again."}
    for each in (None, "secret.png", 3, [], {}):
        with pytest.raises(ImageError, match="is not among the files that are kept here"):
            uploaded_path(each)
