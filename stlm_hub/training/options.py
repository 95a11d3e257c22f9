"""The options of a fine-tuning, and what follows from them: model, settings of the training, command."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..calibration.threshold import DEFAULT_FALSE_ALARM_RATE
from ..errors import ConfigError
from ..model_folder.provenance import Command
from ..models.stlm.config import NetworkConfig, PatchMemoryConfig, STLMConfig
from ..predict.printable import printable
from ..pseudo_anomalies.nuisance import of_camera
from ..pseudo_anomalies.synthesis import SynthesisConfig
from .config import TrainingConfig
from .input_size import choose_input

DEFAULT_STEPS = 400
LEVELS = ("stage1", "stage2", "embedding", "decoder")
MEMORY = PatchMemoryConfig()

PLACES = {"textures": "DIR", "weights": "FILE", "region": "FILE", "ignore": "FILE"}
"""Options that hold a path of the user, and the word that a recorded command shows in its place."""


def small_machine(steps: int, seed: int = 0, rotation: str = "none", camera: str = "normal") -> TrainingConfig:
    """Settings that train in minutes without a GPU. The zoo's `cpu` recipes use the same with more steps."""
    return TrainingConfig(
        steps=steps,
        batch_size=4,
        teacher="mobile",
        frozen_stages=1,
        learning_rate=3e-4,
        warmup_steps=min(30, max(1, steps // 10)),
        final_learning_rate=0.02,
        rotation=rotation,
        checkpoint_every=50,
        seed=seed,
        nuisance=of_camera(camera),
        synthesis=SynthesisConfig(families=("perlin", "perlin", "nsa", "cutpaste_union")),
    )


@dataclass(frozen=True)
class Options:
    """The options of `stlm finetune`. For their meaning see the arguments of `finetune`."""

    steps: int = DEFAULT_STEPS
    size: int | None = None
    tiles: str = "auto"
    minimum_area: float = 0.0
    seed: int = 0
    memory_entries: int | None = None
    backbone: str = MEMORY.backbone
    rotation: str = "none"
    camera: str = "normal"
    careful: bool = False
    bits: int | None = None
    refine: str = "off"
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE
    leave_out: tuple[str, ...] = ()
    textures: str | Path | None = None
    weights: str | Path | None = None
    region: str | Path | None = None
    ignore: str | Path | None = None

    def model(self, name: str, shape: tuple[int, int]) -> STLMConfig:
        """The configuration of the model.

        Args:
            name: of the model.
            shape: usual height and width of the photographs in pixels.

        Raises:
            ConfigError: an option is out of range.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", name):
            raise ConfigError(f"A model's name is made of letters, digits, dots and dashes; {name!r} is not.")
        if self.steps < 0:
            raise ConfigError(f"steps must be at least 0, not {self.steps}.")
        entries = MEMORY.entries if self.memory_entries is None else self.memory_entries
        if not self.steps and not entries:
            raise ConfigError(
                "Without steps and without memory entries there is nothing to judge by; give one of them."
            )
        input_size, tiles = choose_input(shape, self.size, self.tiles)
        return STLMConfig(
            network=NetworkConfig(input_size=input_size, tiles=tiles, feature_levels=LEVELS),
            patch_memory=PatchMemoryConfig(entries, MEMORY.channels, self.backbone) if entries else None,
            streams=self.steps > 0,
            region=bool(self.region or self.ignore),
            category=name,
            dataset="own photographs",
        )

    def training(self) -> TrainingConfig:
        """The settings of the training.

        Raises:
            ConfigError: an option is out of range.
        """
        settings = small_machine(max(1, self.steps), self.seed, self.rotation, self.camera)
        return dataclasses.replace(settings, bits=self.bits)

    def command(self, name: str) -> Command:
        """The command `stlm finetune` for a model of this name, with all options that differ from the defaults."""
        options: dict[str, Any] = {"name": name}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value not in (field.default, ""):  # an empty path is none
                options[field.name.replace("_", "-")] = PLACES.get(field.name, value)
        if self.memory_entries == 0:
            options.pop("backbone", None)  # without a memory it means nothing
        if self.leave_out:
            options["leave-out"] = tuple(map(printable, self.leave_out))
        return Command("stlm finetune", ("FOLDER",), options)
