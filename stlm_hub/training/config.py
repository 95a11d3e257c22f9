"""How one training runs. Defaults are the paper's (section 4.1.3); recipes change them, field by field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .pseudo_anomalies.synthesis import SynthesisConfig

TEACHERS = ("vit_h", "vit_l", "vit_b", "mobile", "none")
PLAIN_STREAMS = ("trained", "frozen", "teacher")
DISTILLATIONS = ("features", "masks")
AGGREGATIONS = ("one_stage", "two_stage", "none")
ENCODER_WEIGHTS = ("mobile_sam", "random")
ROTATIONS = ("none", "slight", "quarter", "full")
PRECISIONS = ("auto", "no", "bf16")

SMALLEST_CROP = 64

_WHOLE = {  # smallest and largest value of the whole numbers
    "steps": (0, 10**9),
    "batch_size": (2, 4096),  # of a single photograph BatchNorm behind the image pooling has no statistics
    "frozen_stages": (0, 3),
    "warmup_steps": (0, 10**9),
    "seed": (0, 2**63 - 1),
    "checkpoint_every": (1, 10**9),
    "feature_cache_bytes": (0, 2**50),
    "crop": (0, 2**14),
}
_REAL = {  # and of the others
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
    "crop_share": (0.0, 1.0),
}


CHANGES_NO_LOSS = ("checkpoint_every", "feature_cache_bytes", "recompute_activations")
"""Fields in which two trainings with the same losses may differ."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training besides the model's own `STLMConfig` and the photographs."""

    steps: int = 0  # optimiser steps; 0: as many as `epochs` needs
    epochs: float = 200.0  # passes over the training photographs, used where steps is 0
    batch_size: int = 2  # photographs a step and process
    teacher: str = "vit_h"  # whose knowledge is distilled: SAM's ViT-H, ViT-L, ViT-B, MobileSAM ("mobile") or nobody's
    distillation: str = "features"  # what is distilled: the level features or SAM's mask logits ("masks", Table 9)
    # "frozen": its encoder stays at the mobile teacher's weights, where its own loss is zero from the start; "teacher":
    # its decoder too, so that there is no plain student (paper, Table 4)
    plain_stream: str = "trained"
    aggregation: str = "one_stage"  # trained with the streams, after them ("two_stage", Table 5) or not at all ("none")
    encoder_weights: str = "mobile_sam"  # what the encoders start from, or "random" (Table 8)
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
    crop: int = 0  # side in px of windows at the part, a multiple of 16, that training sees; 0: whole photographs
    crop_share: float = 0.85  # of the steps that see windows; then learning rates start anew for whole photographs
    rotation: str = "none"  # of training photographs: slight (+-5 degrees), quarter (k x 90), full (both); see recipes
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)  # pseudo anomalies
    precision: str = "auto"  # auto: bf16 where the processor multiplies it in hardware, else float32
    seed: int = 0  # decides shuffling, augmentation, pseudo anomalies, held-out photographs and initial weights
    held_out: float = 0.15  # share of the normal photographs kept for calibration, never trained on
    checkpoint_every: int = 100  # steps between checkpoints
    # bytes for teacher features of photographs that come back unchanged, never more than a quarter of the free memory
    feature_cache_bytes: int = 3 * 2**29

    def __post_init__(self) -> None:
        _choice("teacher", self.teacher, TEACHERS)
        _choice("distillation", self.distillation, DISTILLATIONS)
        _choice("plain_stream", self.plain_stream, PLAIN_STREAMS)
        _choice("aggregation", self.aggregation, AGGREGATIONS)
        _choice("encoder_weights", self.encoder_weights, ENCODER_WEIGHTS)
        _choice("rotation", self.rotation, ROTATIONS)
        _choice("precision", self.precision, PRECISIONS)
        if not isinstance(self.recompute_activations, bool):
            raise ConfigError(f"recompute_activations must be true or false, not {self.recompute_activations!r:.60}.")
        for name, (low, high) in _WHOLE.items():
            _within(name, getattr(self, name), low, high, int)
        for name, (least, most) in _REAL.items():
            _within(name, getattr(self, name), least, most, (int, float))
        if not isinstance(self.betas, (list, tuple)) or len(self.betas) != 2:
            raise ConfigError(f"betas must be two numbers, not {self.betas!r}.")
        object.__setattr__(self, "betas", tuple(self.betas))
        for beta in self.betas:
            _within("betas", beta, 0.0, 0.999999, (int, float))
        if not isinstance(self.synthesis, SynthesisConfig):
            raise ConfigError("synthesis must hold the fields of SynthesisConfig.")
        if self.plain_stream != "trained" and self.teacher != "mobile":
            raise ConfigError(
                f'plain_stream "{self.plain_stream}" needs teacher "mobile": the plain stream then is the teacher.'
            )
        if self.encoder_weights == "random" and (self.plain_stream != "trained" or self.frozen_stages):
            raise ConfigError('encoder_weights "random" needs plain_stream "trained" and frozen_stages 0.')
        if self.encoder_weights == "random" and self.recompute_activations:  # BatchNorm would count each batch twice
            raise ConfigError('encoder_weights "random" needs recompute_activations false.')
        if self.teacher == "none" and self.distillation == "masks":
            raise ConfigError('distillation "masks" needs a teacher whose masks are distilled.')
        if self.hardest_share < 1 and self.distillation == "masks":
            raise ConfigError('distillation "masks" needs hardest_share 1: it has no distances of features.')
        if self.teacher == "none" and self.frozen_stages:
            raise ConfigError('teacher "none" needs frozen_stages 0: both streams learn as a whole.')
        if self.crop % 16 or 0 < self.crop < SMALLEST_CROP:
            raise ConfigError(f"crop must be 0 or a multiple of 16 from {SMALLEST_CROP}, not {self.crop}.")
        if self.crop and (self.teacher != "mobile" or self.distillation == "masks"):
            raise ConfigError('crop needs teacher "mobile" and distillation "features"; the others see all of a photo.')
        if self.crop and self.aggregation == "two_stage":
            raise ConfigError('crop needs aggregation "one_stage" or "none": windows and whole photos are stages too.')
        if not 0 < self.crop_share < 1:
            raise ConfigError("crop_share must be above 0 and below 1; crop 0 trains on whole photographs alone.")
        if self.steps == 0 and self.epochs == 0:
            raise ConfigError("steps or epochs must be above 0.")
        if not self.hardest_share > 0:
            raise ConfigError("hardest_share must be above 0 and at most 1; 1 averages over all positions.")
        if not 0 < self.held_out < 0.9:
            raise ConfigError(f"held_out must be a share between 0 and 0.9, not {self.held_out}.")

    def total_steps(self, n_photographs: int, processes: int = 1) -> int:
        """Optimiser steps for `n_photographs` training photographs, at least 1; each of two stages gets as many."""
        steps = self.steps or max(1, round(self.epochs * n_photographs / (self.batch_size * processes)))
        return 2 * steps if self.aggregation == "two_stage" else steps

    def stage(self, step: int, total: int) -> str:
        """What step 0, 1, ... of `total` trains: "all" at once, only the "streams" or only the "aggregation"."""
        if self.aggregation == "two_stage":
            return "streams" if step < total // 2 else "aggregation"
        return "all" if self.aggregation == "one_stage" else "streams"

    def whole_from(self, total: int) -> int:
        """The first step of `total` that sees whole photographs; at least the last one does."""
        return min(round(self.crop_share * total), total - 1) if self.crop else 0

    def step_in_stage(self, step: int, total: int) -> tuple[int, int]:
        """Step 0, 1, ... of `total` -> the step of its own stage and that stage's number of steps."""
        first = total // 2 if self.aggregation == "two_stage" else self.whole_from(total)
        return (step, first) if step < first else (step - first, total - first)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON and YAML."""
        return _plain(dataclasses.asdict(self))

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the losses, as plain data: all fields but `CHANGES_NO_LOSS`."""
        return {name: value for name, value in self.to_dict().items() if name not in CHANGES_NO_LOSS}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainingConfig:
        """Raises ConfigError for a field that does not exist or has an impossible value."""
        if not isinstance(data, dict):
            raise ConfigError(f"The training settings must be fields with values, not {data!r:.60}.")
        values = dict(data)
        if isinstance(values.get("synthesis"), dict):
            _known("synthesis", values["synthesis"], SynthesisConfig)
            values["synthesis"] = SynthesisConfig(**values["synthesis"])
        _known("training", values, cls)
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _known(section: str, values: dict[str, Any], cls: type) -> None:
    unknown = sorted(map(str, set(values) - {f.name for f in dataclasses.fields(cls)}))
    if unknown:
        raise ConfigError(
            f"{section} has no field {unknown[0]!r}; it has {sorted(f.name for f in dataclasses.fields(cls))}."
        )


def _within(name: str, value: Any, low: float, high: float, kind: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        # YAML reads 5e-4 as a text; it wants 5.0e-4
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} must be {what} from {low} to {high}, not {value!r:.60}.")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {list(choices)}, not {value!r}.")
