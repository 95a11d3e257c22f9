"""The paper's own setting at full size: 1024 px, two photographs, Segment Anything's ViT-H as the teacher."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from segment_anything import sam_model_registry

from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.samples.parts import write_samples
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.loop import train
from stlm_hub.training.teacher import SAM_FILES
from train.recipe import load_recipe


@pytest.mark.slow
def test_a_step_of_the_paper_profile_trains_both_streams_from_vit_h(
    tmp_path: Path, starting_weights: StartingWeights
) -> None:
    """Random weights in the real checkpoint's format and size (2.6 GB); minutes on two cores, 15 GB of memory."""
    recipe = load_recipe("mvtec-bottle", "paper-gpu")
    training = dataclasses.replace(recipe.training, steps=1)
    assert (recipe.model.network.image_size, training.batch_size, training.teacher) == (1024, 2, "vit_h")
    teacher = tmp_path / SAM_FILES["vit_h"]
    torch.save(sam_model_registry["vit_h"]().state_dict(), teacher)
    assert teacher.stat().st_size > 2.5e9
    write_samples(tmp_path / "samples", part="brick", n_train=4, n_good=1, n_defect_each=1, size=1024)
    photographs = sorted((tmp_path / "samples" / "brick" / "train" / "good").glob("*"))[:4]
    network = STLMNetwork(recipe.model.network)
    before = {name: p.detach().clone() for name, p in network.aggregation.named_parameters()}
    try:
        log = train(network, photographs, training, starting_weights, tmp_path / "run", teacher_checkpoint=teacher)
    finally:
        teacher.unlink()
    assert len(log) == 1 and all(math.isfinite(value) for value in log[0].values())
    assert log[0]["plain"] > 0 and log[0]["denoising"] > 0  # ViT-H is not MobileSAM, so both streams have to learn
    assert all(not torch.equal(p, before[name]) for name, p in network.aggregation.named_parameters())
    for stream in (network.plain_encoder, network.denoising_encoder):
        changed = [
            not torch.equal(tensor, starting_weights.encoder[name])
            for name, tensor in stream.state_dict().items()
            if name.endswith("qkv.weight")
        ]
        assert changed and all(changed)
