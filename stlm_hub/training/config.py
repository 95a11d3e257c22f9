"""How one training runs. Defaults are the paper's (section 4.1.3); recipes change them, field by field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..predict.depth import check_bits
from ..pseudo_anomalies.nuisance import Nuisance
from ..pseudo_anomalies.synthesis import SynthesisConfig
from ..validate import check_choice, check_fields, check_flag, check_integer, check_number

TEACHERS = ("vit_h", "vit_l", "vit_b", "mobile")
PLAIN_STREAMS = ("trained", "frozen")
ROTATIONS = ("none", "slight", "quarter", "full")
PRECISIONS = ("auto", "no", "bf16")

_INTEGERS = {  # smallest and largest value
    "steps": (0, 10**9),
    "batch_size": (2, 4096),  # BatchNorm behind the image pooling has no statistics of a single photograph
    "frozen_stages": (0, 3),
    "warmup_steps": (0, 10**9),
    "seed": (0, 2**63 - 1),
    "checkpoint_every": (1, 10**9),
    "feature_cache_bytes": (0, 2**50),
}
_NUMBERS = {
    "epochs": (0.0, 1e9),
    "learning_rate": (0.0, 1e9),
    "residual_learning_rate": (0.0, 1e9),
    "head_learning_rate": (0.0, 1e9),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, 1e9),
    "final_learning_rate": (0.0, 1e9),
    "gradient_clip": (0.0, 1e9),
    "held_out": (0.0, 0.9),
    "hardest_share": (0.0, 1.0),
}


CHANGES_NO_LOSS = ("checkpoint_every", "feature_cache_bytes", "recompute_activations")
"""Fields in which two trainings with the same losses may differ."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training besides the network's own configuration and the photographs."""

    steps: int = 0  # optimiser steps; 0: as many as `epochs` needs
    epochs: float = 200.0  # passes over the training photographs, used where steps is 0
    batch_size: int = 2  # photographs a step and process
    teacher: str = "vit_h"  # whose features are distilled: SAM's ViT-H, ViT-L or ViT-B, or MobileSAM ("mobile")
    # "frozen": the plain stream's encoder stays at the mobile teacher's weights, where its own loss starts at zero
    plain_stream: str = "trained"
    recompute_activations: bool = False  # of the encoders, in the backward pass: less memory, more time, same losses
    frozen_stages: int = 0  # stages of both encoders kept at the starting weights, patch embedding included; 0: none
    learning_rate: float = 5e-4  # Adam, streams and decoder
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam
    residual_learning_rate: float = 0.1  # SGD, residual blocks of the aggregation module
    head_learning_rate: float = 0.01  # SGD, its ASPP and convolutions
    momentum: float = 0.9  # of SGD
    weight_decay: float = 1e-4  # of SGD
    warmup_steps: int = 0  # learning rates rise linearly over this many steps
    final_learning_rate: float = 1.0  # factor that the learning rates fall to by the last step, along half a cosine
    hardest_share: float = 1.0  # of each image's positions, over whose worst the denoising and the focal loss are means
    gradient_clip: float = 0.0  # largest norm of the gradient of all weights; 0: no clipping
    rotation: str = "none"  # of training photographs: slight (+-5 degrees), quarter (k x 90), full (both); see recipes
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)  # pseudo anomalies
    nuisance: Nuisance | None = None  # how half of the samples are disturbed, the clean and the damaged image alike
    bits: int | None = None  # that photographs of 16 bits use, see `predict.depth`; None: 16, or they have 8
    precision: str = "auto"  # auto: bf16 where the processor multiplies it in hardware, else float32
    seed: int = 0  # decides shuffling, augmentation, pseudo anomalies, held-out photographs and initial weights
    held_out: float = 0.15  # share of the normal photographs kept for calibration, never trained on
    checkpoint_every: int = 100  # steps between checkpoints
    # bytes for teacher features of photographs that come back unchanged, never more than a quarter of the free memory
    feature_cache_bytes: int = 3 * 2**29

    def __post_init__(self) -> None:
        check_choice("teacher", self.teacher, TEACHERS)
        check_choice("plain_stream", self.plain_stream, PLAIN_STREAMS)
        check_choice("rotation", self.rotation, ROTATIONS)
        check_choice("precision", self.precision, PRECISIONS)
        check_bits(self.bits)
        check_flag("recompute_activations", self.recompute_activations)
        for name, bounds in _INTEGERS.items():
            check_integer(name, getattr(self, name), *bounds)
        for name, limits in _NUMBERS.items():
            check_number(name, getattr(self, name), *limits)
        if not isinstance(self.betas, (list, tuple)) or len(self.betas) != 2:
            raise ConfigError(f"betas must be two numbers, not {self.betas!r}.")
        object.__setattr__(self, "betas", tuple(self.betas))
        for beta in self.betas:
            check_number("betas", beta, 0.0, 0.999999)
        if not isinstance(self.synthesis, SynthesisConfig):
            raise ConfigError("synthesis must hold the fields of SynthesisConfig.")
        if self.nuisance is not None and not isinstance(self.nuisance, Nuisance):
            raise ConfigError("nuisance must hold the fields of Nuisance, or be left out.")
        if self.plain_stream == "frozen" and self.teacher != "mobile":
            raise ConfigError('plain_stream "frozen" needs teacher "mobile": the plain stream then is the teacher.')
        if self.steps == 0 and self.epochs == 0:
            raise ConfigError("steps or epochs must be above 0.")
        if not self.hardest_share > 0:
            raise ConfigError("hardest_share must be above 0 and at most 1; 1 averages over all positions.")
        if not 0 < self.held_out < 0.9:
            raise ConfigError(f"held_out must be a share between 0 and 0.9, not {self.held_out}.")

    def total_steps(self, n_photographs: int, processes: int = 1) -> int:
        """Optimiser steps for `n_photographs` training photographs, at least 1."""
        return self.steps or max(1, round(self.epochs * n_photographs / (self.batch_size * processes)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON and YAML."""
        data = dataclasses.asdict(self)
        data["betas"], data["synthesis"]["families"] = list(self.betas), list(self.synthesis.families)
        return data

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the losses, as plain data: all fields but `CHANGES_NO_LOSS`."""
        return {name: value for name, value in self.to_dict().items() if name not in CHANGES_NO_LOSS}

    @classmethod
    def from_dict(cls, data: Any) -> TrainingConfig:
        """Raises ConfigError for a field that does not exist or has an impossible value."""
        values = dict(check_fields("training", data, _names(cls)))
        if isinstance(values.get("synthesis"), dict):
            values["synthesis"] = SynthesisConfig(
                **check_fields("synthesis", values["synthesis"], _names(SynthesisConfig))
            )
        if isinstance(values.get("nuisance"), dict):
            values["nuisance"] = Nuisance.from_dict(values["nuisance"])
        return cls(**values)


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]
