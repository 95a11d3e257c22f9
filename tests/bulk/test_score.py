"""Folders, globs and lists, here and behind addresses -> rows and maps; and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import texture, write_photographs

from stlm_hub.bulk.cluster import _places
from stlm_hub.bulk.inputs import find_photographs
from stlm_hub.bulk.output import Output
from stlm_hub.bulk.part import Job
from stlm_hub.bulk.score import score
from stlm_hub.errors import ConfigError, DataError, HubError
from stlm_hub.model_folder.folder import write_judging
from stlm_hub.models.stlm.judging import Judging
from stlm_hub.runtime import beside
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")


@pytest.fixture
def bucket() -> Iterator[str]:
    """An address of 3 photographs, a damaged one and a text."""
    system = fsspec.filesystem("memory")
    for name, data in (("a.png", 1), ("deep/b.png", 2), ("deep/c.JPG", 3)):
        image = cv2.imencode(Path(name).suffix, np.random.default_rng(data).integers(0, 255, (70, 90, 3), np.uint8))[1]
        system.pipe_file(f"/bucket/{name}", image.tobytes())
    system.pipe_file("/bucket/d.png", b"no photograph")
    system.pipe_file("/bucket/.hidden/e.png", b"x")
    system.pipe_file("/bucket/notes.txt", b"text")
    yield "memory://bucket"
    system.store.clear()


def test_an_address_to_an_address(bucket: str, saved_memory_toy: Path, toy_memory_model: STLM) -> None:
    output, heard = "memory://bucket/rows", []
    made = score(
        bucket, output, str(saved_memory_toy), workers=0, maps=True, on_progress=lambda *told: heard.append(told)
    )
    assert (made.photographs, made.errors) == (4, 1) and heard == [(n, 4) for n in range(1, 5)]
    system = fsspec.filesystem("memory")
    with system.open("/bucket/rows/part-0000000.parquet") as file:
        rows = {row["path"]: row for row in pq.read_table(file).to_pylist()}
    names = [f"memory:///bucket/{name}" for name in ("a.png", "d.png", "deep/b.png", "deep/c.JPG")]
    assert sorted(rows) == names
    assert list(rows[names[0]]) == ["path", "verdict", "score", "threshold", "unfamiliar", "error", "seconds", "note"]
    assert "d.png is not a PNG" in rows[names[1]]["error"] and rows[names[1]]["verdict"] is None
    wanted = toy_memory_model.predict(system.cat_file("/bucket/deep/b.png"))
    assert rows[names[2]]["verdict"] == wanted.verdict and rows[names[2]]["threshold"] == wanted.threshold
    assert rows[names[2]]["score"] == pytest.approx(wanted.score, abs=5e-3)  # weights in float16
    with system.open("/bucket/rows/_maps/part-0000000.parquet") as file:
        maps = {row["path"]: row["map"] for row in pq.read_table(file).to_pylist()}
    assert sorted(maps) == [name for name in names if name != names[1]]
    read = cv2.imdecode(np.frombuffer(maps[names[2]], np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16 and np.abs(read / 65535 - wanted.anomaly_map).max() < 5e-3


def test_files_of_16_bits_are_read_as_the_model_or_the_command_says(saved_memory_toy: Path, tmp_path: Path) -> None:
    photographs, image = tmp_path / "photos", texture(70, 90)
    photographs.mkdir()
    cv2.imwrite(str(photographs / "deep.png"), image[..., ::-1].astype(np.uint16) << 4)

    def row(output: str, model: Path, **options: float) -> dict[str, Any]:
        score(str(photographs), str(tmp_path / output), str(model), workers=0, **options)  # type: ignore[arg-type]
        return dict(pq.read_table(tmp_path / output).to_pylist()[0])

    wanted = STLM.from_pretrained(saved_memory_toy, device="cpu").predict(image).score
    dark = row("dark", saved_memory_toy)
    assert "16 times too dark" in dark["note"] and abs(dark["score"] - wanted) > 1e-3
    said = row("said", saved_memory_toy, bits=12)
    assert said["note"] is None and said["score"] == pytest.approx(wanted, abs=1e-5)
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    judging = Judging.load(folder / "calibration.json")
    write_judging(folder, judging.replace(bits=12))
    known = row("known", folder, threshold=0.125)
    assert known["score"] == pytest.approx(wanted, abs=1e-5) and known["note"] is None
    assert (known["threshold"], said["threshold"]) == (0.125, judging.threshold)
    for options, message in (({}, "rows of --threshold 0.125"), ({"threshold": 0.125, "bits": 14}, "own bits")):
        with pytest.raises(DataError, match=message):
            row("known", folder, **options)
    with pytest.raises(ConfigError, match="bits must be"):
        row("none", folder, bits=9)


def test_an_export_that_comes_in_the_middle_does_not_judge_the_rest(
    saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path / "photos", 2)
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    score(str(tmp_path / "photos"), str(tmp_path / "rows"), str(folder), workers=0)
    export = tmp_path / "export"
    export.mkdir()
    (export / "model.onnx").write_bytes(b"another graph")
    monkeypatch.setattr(beside, "exports_of", lambda model: [(export, None)])
    with pytest.raises(DataError, match="rows of the model as it was before; name another --output"):
        score(str(tmp_path / "photos"), str(tmp_path / "rows"), str(folder), workers=0)


def test_a_backend_judges_the_rows(saved_memory_toy: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", 3)

    def scores(output: str, **options: Any) -> list[float]:
        score(str(tmp_path / "photos"), str(tmp_path / output), str(saved_memory_toy), **options)
        return list(pq.read_table(tmp_path / output).column("score").to_pylist())

    plain, rounded = scores("fp32", workers=0), scores("bf16", workers=0, device="cpu", backend="torch bf16")
    assert plain != rounded and rounded == pytest.approx(plain, abs=0.05)


@pytest.mark.parametrize(
    ("resources", "device", "workers"),
    [({"CPU": 9}, None, 4), ({"CPU": 9, "GPU": 2}, "cuda", 2), ({"CPU": 9, "GPU": 2}, "cpu", 4), ({}, "cuda", 1)],
)
def test_a_cluster_has_a_worker_for_each_card_or_for_so_many_processors(
    resources: dict[str, float], device: str | None, workers: int
) -> None:
    assert _places(resources, Job("model", "rows", "run", False, threads=2, device=device)) == workers


def test_what_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paths = write_photographs(folder, 3)
    write_photographs(folder / "deep", 1)
    (folder / "notes.txt").write_text("text")
    (folder / "deep" / "circle").symlink_to(folder, target_is_directory=True)
    whole = [str(folder / "deep" / "part_0.png"), *map(str, paths)]
    assert find_photographs(str(folder)) == find_photographs(f"file://{folder}") == whole
    assert find_photographs(f"{folder}/part_*") == whole[1:]
    assert find_photographs(f"{folder}/*") == whole
    assert find_photographs(f"{folder}/**/part_0.png") == whole[:2]
    assert find_photographs(f"{folder}/**/de*") == whole[:1]  # of a folder that matches
    assert find_photographs(str(paths[0])) == [str(paths[0])]
    (folder / "list.csv").write_text(f"number,path\n1,part_1.png\n2,{paths[0]}\n3,part_1.png\n4,s3://b/x.png\n")
    assert find_photographs(str(folder / "list.csv")) == [str(paths[1]), str(paths[0]), "s3://b/x.png"]
    pq.write_table(pa.table({"path": ["deep/part_0.png", "none.png"]}), folder / "list.parquet")
    assert find_photographs(str(folder / "list.parquet")) == [whole[0], str(folder / "none.png")]


def test_lists_behind_an_address_are_relative_to_it(bucket: str) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/list.csv", b"path\ndeep/b.png\nmemory://other/x.png\n")
    found = ["memory://bucket/deep/b.png", "memory://other/x.png"]
    assert find_photographs(f"{bucket}/list.csv") == found
    assert find_photographs(f"{bucket}/deep/*.png") == ["memory:///bucket/deep/b.png"]


def test_names_that_are_not_utf_8_have_rows(saved_memory_toy: Path, tmp_path: Path) -> None:
    (path,) = write_photographs(tmp_path / "photos", 1)
    path.rename(path.with_name("M\udcfcller.png"))
    score(str(tmp_path / "photos"), str(tmp_path / "rows"), str(saved_memory_toy), workers=0)
    (row,) = pq.read_table(tmp_path / "rows").to_pylist()
    assert row["path"].endswith("M\\xfcller.png") and row["verdict"]


def test_inputs_that_cannot_be_used(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": ["a.png"]}), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text("name,size\na,1\n")
    (tmp_path / "gap.csv").write_text("path,size\na.png,1\n,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("path\n")
    (tmp_path / "folder").mkdir()
    for name, sentence in (
        ("list.parquet", r'has no column "path" \(its columns: file\); name the column'),
        ("list.csv", r'has no column "path" \(its columns: name, size\); name the column'),
        ("gap.csv", "Row 2 of gap.csv has no path; correct it"),
        ("broken.parquet", "cannot be read as a list"),
        ("empty.csv", "holds no photographs; pass a folder"),
        ("folder", "holds no photographs; pass a folder"),
        ("*.png", "holds no photographs; pass a folder"),
        ("none", "There is no .*none; pass a folder, a glob"),
    ):
        with pytest.raises(DataError, match=sentence):
            find_photographs(str(tmp_path / name))
    with pytest.raises(DataError, match=r"memory://nothing holds no photographs"):
        find_photographs("memory://nothing")
    with pytest.raises(DataError, match=r"Protocol not known: nobody.*give a path"):
        find_photographs("nobody://bucket")
    with pytest.raises(DataError, match="chains protocols"):
        find_photographs("zip://*.png::file:///x.zip")


def test_a_protocol_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    for use in (find_photographs, Output):
        with pytest.raises(DataError, match=r"s3:// needs a package that is not installed: pip install s3fs"):
            use("s3://bucket/photos")


def test_what_is_refused_leaves_nothing_behind(saved_memory_toy: Path, saved_toy: Path, tmp_path: Path) -> None:
    photos, rows, model = tmp_path / "photos", tmp_path / "rows", str(saved_memory_toy)
    write_photographs(photos, 2)
    (tmp_path / "list.csv").write_text("name\na\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("x")

    def refused(sentence: str, source: Path = photos, output: str = str(rows), **options: object) -> None:
        with pytest.raises((DataError, ConfigError, HubError), match=sentence):
            score(str(source), output, **{"model": model, "workers": 0, **options})  # type: ignore[arg-type]
        assert not rows.exists()

    refused('no engine "spark"; use local or ray', engine="spark")
    refused("--workers must be", workers=-1)
    refused("--workers must be", engine="ray")
    refused("Name it with --model", model=None)
    refused("has no column", tmp_path / "list.csv")
    refused("There is no", tmp_path / "none")
    refused("is a file; name a folder", output=str(tmp_path / "file"))
    refused("holds something else", output=str(tmp_path / "other"))
    refused("cannot be written", output="/proc/nowhere/rows")
    refused("There is no folder", model=str(tmp_path / "no-model"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "patch_memory.safetensors").write_bytes(b"x")
    refused(r"config\.json", model=str(broken))  # found out by the worker that loads it
    rows.mkdir()
    with pytest.raises(ConfigError, match=r"config\.json"):
        score(str(photos), str(rows), str(broken), workers=0)
    assert list(rows.iterdir()) == []  # it was there before
    rows.rmdir()
    refused(r"config\.json", model=str(broken), output=str(tmp_path / "new" / "deep" / "rows"))
    assert not (tmp_path / "new").exists()
    rows.mkdir()
    (rows / "._plan.json.0123").write_text("{")  # of a command that was killed, and no rows
    score(str(photos), str(rows), model, workers=0)
    with pytest.raises(DataError, match=f"holds rows of the model {model}; name another --output"):
        score(str(photos), str(rows), str(saved_toy), workers=0)
    with pytest.raises(DataError, match="holds rows without --maps"):
        score(str(photos), str(rows), model, workers=0, maps=True)
    write_photographs(photos, 3)
    with pytest.raises(DataError, match=r"rows of other photographs \(2 of .*, now 3 of"):
        score(str(photos), str(rows), model, workers=0)
    (rows / "_plan.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        score(str(photos), str(rows), model, workers=0)


def test_rows_inside_the_folder_of_photographs_are_no_photographs(saved_memory_toy: Path, tmp_path: Path) -> None:
    write_photographs(tmp_path, 2)
    score(str(tmp_path), str(tmp_path / "rows"), str(saved_memory_toy), workers=0)
    write_photographs(tmp_path / "rows", 1)
    assert score(str(tmp_path), str(tmp_path / "rows"), workers=0).before == 2
    assert json.loads((tmp_path / "rows" / "_plan.json").read_text())["photographs"] == 2
