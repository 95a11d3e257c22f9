"""The patch memory that benchmarks/quality.py compares STLM with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import peer_memory
from benchmarks.memory_bank import MemoryBank, anomaly_map, sample_patches
from benchmarks.peer_job import Job
from stlm_hub.models.backbones.mobile_sam import MobileSam


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk_values", [1, 100, 2**24])
def test_distances_are_those_of_a_full_comparison_for_any_size_of_chunks(chunk_values: int) -> None:
    entries, patches = random(57, 8) + 20, random(3, 5, 8, seed=1) + 20
    expected = torch.cdist(patches.reshape(15, 8).double(), entries.double()).amin(1).reshape(3, 5)
    found = MemoryBank(entries, chunk_values).distances(patches)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected.float(), atol=1e-4)


def test_the_changed_patch_has_the_highest_value_of_the_map() -> None:
    entries = random(200, 6)
    patches = entries[:64].reshape(8, 8, 6).clone()
    plain, plain_score = anomaly_map(MemoryBank(entries).distances(patches), 64)
    patches[2, 5] += 30
    values, score = anomaly_map(MemoryBank(entries).distances(patches), 64)
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert values.shape == (64, 64) and values.dtype == np.float32
    assert (row // 8, column // 8) == (2, 5)
    assert plain_score < 1e-2 < score and score <= values.max()
    assert score == pytest.approx(np.sort(values.ravel())[-100:].mean(), rel=1e-5)
    assert plain.max() < 1e-2


def test_the_same_share_of_every_image_is_kept_and_the_seed_decides_which() -> None:
    images = [torch.full((10, 10, 2), float(i)) + torch.arange(200).reshape(10, 10, 2) / 1000 for i in range(3)]

    def sampled(seed: int) -> torch.Tensor:
        return sample_patches(iter(images), 0.05, torch.Generator().manual_seed(seed))

    entries = sampled(0)
    assert entries.shape == (15, 2) and entries.dtype == torch.float16
    assert [int((entries[:, 0].floor() == i).sum()) for i in range(3)] == [5, 5, 5]
    assert len(entries.unique(dim=0)) == 15
    assert torch.equal(entries, sampled(0)) and not torch.equal(entries, sampled(1))


def test_a_saved_memory_scores_a_changed_photograph_higher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = MobileSam()
    state = whole.state_dict()
    monkeypatch.setattr(MobileSam, "load_pretrained", lambda backbone: backbone.load_state_dict(state))
    normal = np.random.default_rng(0).integers(100, 140, (96, 80, 3), dtype=np.uint8)
    Image.fromarray(normal).save(tmp_path / "normal.png")
    job = Job("memory-mobilesam", "fit", str(tmp_path / "model"), [str(tmp_path / "normal.png")], 64, 1, 0, 1.0)
    progress: list[tuple[int, int]] = []
    with torch.inference_mode():
        peer_memory.fit(job, lambda done, total: progress.append((done, total)))
        judge = peer_memory.load(job)
        plain, plain_score = judge(normal)
        changed = normal.copy()
        changed[60:80, 10:30] = 255
        values, score = judge(changed)  # with random weights the map need not show the place
    assert progress == [(1, 1)]
    assert values.shape == plain.shape == (96, 80)
    assert score > 2 * plain_score
    parameters = sum(tensor.numel() for tensor in whole.state_dict().values())
    assert Path(job.model).stat().st_size < 2 * (parameters + 64 * 288) + 100_000  # half precision
