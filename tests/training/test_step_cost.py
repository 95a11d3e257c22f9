"""What a training step may cost: little more than the forward and backward pass of the two streams it trains."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stlm_hub.models.stlm.config import NetworkConfig
from stlm_hub.models.stlm.network import STLMNetwork
from stlm_hub.starting_weights.starting_weights import StartingWeights
from stlm_hub.training.config import TrainingConfig
from stlm_hub.training.loop import train

SIZE, BATCH, STEPS = 256, 4, 12


@pytest.mark.slow
def test_a_step_costs_at_most_1_4_passes_of_both_streams(starting_weights: StartingWeights, tmp_path: Path) -> None:
    """The paper's recipe, mobile teacher, float32, nothing frozen: teacher, synthesis and optimisers included."""
    paths = []
    for i in range(BATCH):
        paths.append(tmp_path / f"{i}.png")
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(paths[-1])
    network = STLMNetwork(NetworkConfig(input_size=(SIZE, SIZE)))
    config = TrainingConfig(steps=STEPS, batch_size=BATCH, teacher="mobile", precision="no", checkpoint_every=STEPS)
    log = train(network, paths, config, starting_weights, tmp_path / "run")
    # The first epoch is one step here; the last step also writes a checkpoint.
    step = statistics.median(record["seconds"] for record in log[2:-1])

    network.train()
    images = torch.rand(BATCH, 3, SIZE, SIZE) * 255
    passes = []
    for _ in range(6):
        network.zero_grad(set_to_none=True)
        started = time.perf_counter()
        output = network(images)
        levels = [*output.plain.values(), *output.denoising.values()]
        (output.logits.mean() + sum(feature.mean() for feature in levels)).backward()
        passes.append(time.perf_counter() - started)
    both = statistics.median(passes[1:])
    print(f"step {step:.2f} s, forward and backward of both streams {both:.2f} s, ratio {step / both:.2f}")
    assert step <= 1.4 * both
