"""A weights file: read strictly, once, and only as safetensors; the same weights give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from stlm_hub.errors import WeightsError
from stlm_hub.model_folder.folder import read_folder
from stlm_hub.model_folder.weights_file import MAX_HEADER_BYTES, read_model_weights, read_weights, write_weights
from stlm_hub.models.stlm.anomaly_maps import AnomalyMaps
from stlm_hub.stlm import STLM

pytestmark = pytest.mark.usefixtures("toy_streams")
EXPECTED = {"conv.weight": torch.zeros(4, 3), "norm.count": torch.tensor(0)}
FILES = ("config.json", "calibration.json", "model.safetensors", "patch_memory.safetensors", "familiarity.safetensors")


def weights(**changes: Tensor) -> dict[str, Tensor]:
    """Weights that fit EXPECTED, with some changed; the names of keyword arguments have no dots."""
    values = {"conv_weight": torch.linspace(-1, 1, 12).view(4, 3), "norm_count": torch.tensor(7), **changes}
    return {name.replace("_", ".", 1): value for name, value in values.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def with_header(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    """A file with this header, which may tell another size than it has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_smaller_floats_are_cast_up_exactly(dtype: torch.dtype, path: Path) -> None:
    saved = weights(conv_weight=weights()["conv.weight"].to(dtype))
    save_file(saved, path)
    read = read_weights(path, EXPECTED)
    assert read.keys() == EXPECTED.keys() and read["conv.weight"].dtype == torch.float32
    assert torch.equal(read["conv.weight"], saved["conv.weight"].float()) and read["norm.count"] == 7


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conv_more": torch.zeros(1)}, r"1 are unknown \('conv.more'\)"),
        ({"conv_weight": torch.zeros(3, 4)}, r"conv.weight is \(3, 4\) and must be \(4, 3\)"),
        ({"conv_weight": torch.zeros(12)}, r"conv.weight is \(12,\) and must be \(4, 3\)"),
        ({"norm_count": torch.zeros(1, dtype=torch.int64)}, r"norm.count is \(1,\) and must be \(\)"),
        ({"conv_weight": torch.zeros(4, 3, dtype=torch.float64)}, "conv.weight as F64"),
        ({"conv_weight": torch.zeros(4, 3, dtype=torch.int64)}, "conv.weight as I64"),
        ({"conv_weight": torch.zeros(4, 3, dtype=torch.bool)}, "conv.weight as BOOL"),
        ({"norm_count": torch.tensor(1.0)}, "norm.count as F32"),
        ({"conv_weight": torch.full((4, 3), torch.nan)}, "NaN or infinite values in conv.weight"),
        ({"conv_weight": torch.full((4, 3), -torch.inf)}, "NaN or infinite values in conv.weight"),
        ({"conv_weight": torch.full((4, 3), torch.inf, dtype=torch.float16)}, "NaN or infinite values in conv.weight"),
    ],
)
def test_weights_of_another_network_are_refused(changes: dict[str, Any], sentence: str, path: Path) -> None:
    save_file(weights(**changes), path)
    with pytest.raises(WeightsError, match=sentence):
        read_weights(path, EXPECTED)


def test_missing_tensors_are_refused(path: Path) -> None:
    save_file({"conv.weight": torch.zeros(4, 3)}, path)
    with pytest.raises(WeightsError, match=r"1 tensors are missing \(norm.count\)"):
        read_weights(path, EXPECTED)
    save_file({"other.weight": torch.zeros(4, 3)}, path)
    with pytest.raises(WeightsError, match=r"2 tensors are missing \(conv.weight\), 1 are unknown \('other.weight'\)"):
        read_weights(path, EXPECTED)


def whole_file() -> bytes:
    return save(weights())


@pytest.mark.parametrize(
    ("sentence", "content"),
    [
        ("not a whole safetensors", b""),
        ("not a whole safetensors", b"\0" * 7),
        ("not a whole safetensors", whole_file()[:-1]),
        ("not a whole safetensors", whole_file()[:20]),
        ("not a whole safetensors", whole_file() + b"\0"),
        ("not a whole safetensors", b"\xff" * 200),
        ("not a whole safetensors", with_header({}, size=MAX_HEADER_BYTES + 1)),
        ("not a whole safetensors", with_header({}, size=2**64 - 1)),
        ("not a whole safetensors", with_header(b"[" * 100_000)),
        ("not a whole safetensors", with_header(b"\xff\xfe")),
        ("not a whole safetensors", with_header([])),
        ("not a whole safetensors", with_header({"conv.weight": 5})),
        ("not a whole safetensors", with_header({"conv.weight": {"shape": 5, "dtype": "F32"}})),
        ("not a whole safetensors", with_header({"conv.weight": {"dtype": "F32"}})),
        ("tensors are missing", with_header({})),
        *(("pickle", pickle.dumps(weights(), protocol=protocol)) for protocol in (2, 3, 4, 5)),
        ("git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"),
        ("more bytes than its network can take", whole_file() + bytes(MAX_HEADER_BYTES)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:12].hex(),
)
def test_files_that_are_no_safetensors_are_refused(path: Path, sentence: str, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=sentence) as error:
        read_weights(path, EXPECTED)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    "facts",
    [
        {"shape": [4, 3], "dtype": "F32", "data_offsets": [0, 2**40]},
        {"shape": [4, 3], "dtype": "F32", "data_offsets": [8, 56]},
        {"shape": [4, 3], "dtype": "F32", "data_offsets": [48, 0]},
        {"shape": [4, 3], "dtype": "F32", "data_offsets": [-48, 0]},
        {"shape": [4.0, 3], "dtype": "F32", "data_offsets": [0, 48]},
        {"shape": [4, 3], "dtype": "F16", "data_offsets": [0, 48]},
        {"shape": [4, 3], "dtype": "F32"},
        {"shape": [4, 3], "dtype": ["F32"], "data_offsets": [0, 48]},
    ],
    ids=str,
)
def test_a_header_that_lies_about_its_data_is_refused(path: Path, facts: dict[str, Any]) -> None:
    count = {"shape": [], "dtype": "I64", "data_offsets": [48, 56]}
    path.write_bytes(with_header({"conv.weight": facts, "norm.count": count}, bytes(56)))
    with pytest.raises(WeightsError, match=r"not a whole safetensors|save it anew"):
        read_weights(path, EXPECTED)


def test_a_pickle_is_named_and_never_run(path: Path, tmp_path: Path) -> None:
    torch.save(weights(), path)
    assert zipfile.is_zipfile(path)
    with pytest.raises(WeightsError, match="is a pickle, which can run any code"):
        read_weights(path, EXPECTED)
    path.write_bytes(b"\x80\x04c__builtin__\nopen\n(V" + str(tmp_path / "ran").encode() + b"\nVw\ntR.")
    with pytest.raises(WeightsError, match="is a pickle"):
        read_weights(path, EXPECTED)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0x280, 0x380, 0x480, 0x580])
def test_a_header_whose_length_looks_like_a_pickle_is_none(size: int, path: Path) -> None:
    save_file(weights(), path)
    data = path.read_bytes()
    header = data[8 : 8 + struct.unpack("<Q", data[:8])[0]].ljust(size)  # spaces may follow it
    path.write_bytes(struct.pack("<Q", size) + header + data[-56:])
    assert path.read_bytes()[:1] == b"\x80" and read_weights(path, EXPECTED)["norm.count"] == 7


def test_what_is_no_file_is_missing(path: Path) -> None:
    with pytest.raises(WeightsError, match="is missing"):
        read_weights(path, EXPECTED)
    path.mkdir()
    with pytest.raises(WeightsError, match="is missing"):
        read_weights(path, EXPECTED)
    path.rmdir()
    os.mkfifo(path)  # opening it would wait for ever
    with pytest.raises(WeightsError, match="is missing"):
        read_weights(path, EXPECTED)


def test_a_file_is_not_read_beyond_what_its_network_can_take(path: Path) -> None:
    save_file(weights(), path)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    with pytest.raises(WeightsError, match="more bytes than its network can take"):
        read_weights(path, EXPECTED)


def test_sha256_is_checked(path: Path) -> None:
    save_file(weights(), path)
    assert read_weights(path, EXPECTED, sha256=hashlib.sha256(path.read_bytes()).hexdigest())["norm.count"] == 7
    with pytest.raises(WeightsError, match=r"altered or corrupted.*stlm zoo pull NAME --force"):
        read_weights(path, EXPECTED, sha256="0" * 64)


# ---------------------------------------------------------------- writing


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    state = weights(conv_weight=torch.linspace(0, 1, 12).view(3, 4).T)  # not contiguous
    shuffled = dict(reversed(state.items()))
    for i, values in enumerate((state, shuffled, {name: value.clone() for name, value in state.items()})):
        write_weights(tmp_path / str(i), values)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2"]  # no part of one is left
    read = load_file(tmp_path / "0")
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in state.items())


def test_floats_are_narrowed_and_counts_are_not(path: Path) -> None:
    write_weights(path, weights(), torch.float16)
    assert {name: tensor.dtype for name, tensor in load_file(path).items()} == {
        "conv.weight": torch.float16,
        "norm.count": torch.int64,
    }


def test_what_cannot_be_written_leaves_the_file_of_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"of before")
    with pytest.raises(WeightsError, match="float32, float16 or bfloat16, not as"):
        write_weights(path, weights(), torch.float64)
    with pytest.raises(WeightsError, match=r"conv.weight.*not finite as torch.float16.*save as float32"):
        write_weights(path, weights(conv_weight=torch.full((4, 3), 1e6)), torch.float16)
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write_weights(path, weights())
    assert path.read_bytes() == b"of before"


# ---------------------------------------------------------------- of a model


def test_the_memory_is_in_a_file_of_its_own(toy_memory_model: STLM, saved_memory_toy: Path) -> None:
    network, memory = load_file(saved_memory_toy / FILES[2]), load_file(saved_memory_toy / FILES[3])
    assert toy_memory_model.network is not None
    assert network.keys() == toy_memory_model.network.state_dict().keys()
    assert toy_memory_model.patch_memory is not None
    assert memory.keys() == toy_memory_model.patch_memory.state_dict().keys() and "entries" in memory


def test_what_is_familiar_is_in_a_file_of_its_own_in_full_precision(
    toy_memory_model: STLM, saved_memory_toy: Path
) -> None:
    kept, state = load_file(saved_memory_toy / FILES[4]), toy_memory_model.familiarity.state_dict()
    assert kept.keys() == state.keys() and all(torch.equal(kept[name], value) for name, value in state.items())


def test_a_memory_in_the_file_of_the_network_is_left_out(
    toy_memory_model: STLM, saved_memory_toy: Path, tmp_path: Path
) -> None:
    """Streams of before hold it in both files; the one that counts is in a file of its own."""
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    more = {"memory.entries": torch.zeros(6, 16), "memory_encoder.network.stem": torch.full((3,), torch.nan)}
    save_file({**load_file(folder / FILES[2]), **more}, folder / FILES[2])
    state = read_model_weights(folder, toy_memory_model)
    assert toy_memory_model.network is not None
    assert state["network"].keys() == toy_memory_model.network.state_dict().keys()
    assert state["patch_memory"]["entries"].abs().sum() > 0
    save_file({**load_file(folder / FILES[2]), "memories.entries": torch.zeros(1)}, folder / FILES[2])
    with pytest.raises(WeightsError, match=r"1 are unknown \('memories.entries'\)"):
        read_model_weights(folder, toy_memory_model)


@pytest.mark.parametrize("name", FILES[3:])
def test_a_model_of_which_a_file_is_missing_or_another_ones_is_refused(
    name: str, saved_memory_toy: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"{name} is missing"):
        STLM.from_pretrained(folder, device="cpu")
    shutil.copy(folder / FILES[2], folder / name)
    with pytest.raises(WeightsError, match=rf"{name} does not fit its config\.json"):
        STLM.from_pretrained(folder, device="cpu")


def test_nothing_is_allocated_for_a_model_on_no_device(saved_memory_toy: Path) -> None:
    with torch.device("meta"):
        model = AnomalyMaps(*read_folder(saved_memory_toy))
    state = read_model_weights(saved_memory_toy, model)
    assert state.keys() == {"network", "patch_memory", "familiarity"}
    assert all(tensor.device.type == "cpu" for part in state.values() for tensor in part.values())


def count_opens(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Counter[str]:
    """How often each file of a folder is opened from now on."""
    opened: Counter[str] = Counter()
    before: Callable[..., IO[Any]] = Path.open

    def count(self: Path, *arguments: Any, **options: Any) -> IO[Any]:
        if self.parent == folder:
            opened[self.name] += 1
        return before(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", count)
    return opened


def test_each_file_is_opened_once_so_what_is_hashed_is_what_is_loaded(
    saved_memory_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(saved_memory_toy, tmp_path / "model")
    sha256 = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    opened = count_opens(monkeypatch, folder)
    model = AnomalyMaps(*read_folder(folder, sha256))
    read_model_weights(folder, model, sha256)
    assert opened == dict.fromkeys(FILES, 1)
    opened.clear()
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))  # no exports are kept there
    STLM.from_pretrained(folder, device="cpu")
    assert opened == dict.fromkeys(FILES, 1)
