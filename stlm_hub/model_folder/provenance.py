"""How a model came about: commands, photographs, training, calibration. Parts of `results.Results`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..models.stlm.judging import Calibration
from .fields import STRICT, Count, MapName, Settings, Text, Value, Values


@dataclass(frozen=True, config=STRICT)
class Command:
    """A command as data; `line` is what a shell takes.

    Args:
        program: e.g. "stlm finetune" or "python -m train".
        arguments: what stands before the options.
        options: by name without dashes; True is a flag, several values are an option each. A value in capitals stands
            for the reader's own: DIR, FILE.
    """

    program: Text
    arguments: tuple[Text, ...] = ()
    options: Mapping[str, Value | Values] = Field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command for a shell, on one line."""
        words = [self.program, *(shlex.quote(word) for word in self.arguments)]
        for name, given in self.options.items():
            for value in given if isinstance(given, tuple) else (given,):
                if value is not False:
                    words.append(f"--{name}")
                if not isinstance(value, bool):
                    words.append(shlex.quote(str(value)))
        return re.sub(r"\s", " ", " ".join(words))


@dataclass(frozen=True, config=STRICT)
class Circumstances:
    """When something was made, on what, and with which versions ("stlm_hub", "torch", "commit", ...)."""

    date: Text = ""
    hardware: Text = ""
    versions: dict[str, Text] = Field(default_factory=dict)

    @property
    def commit(self) -> str:
        """Of the code; empty where it is not known."""
        return self.versions.get("commit", "")


@dataclass(frozen=True, config=STRICT)
class Provenance:
    """Where a model comes from.

    Args:
        alias: name of the model.
        repo_id: `org/repo` where it is or will be published.
        weights_license: identifier of the Hub; "other" and "" are none.
        profile: of the recipe; empty where there is none.
        commands: what makes the model again, in order.
        made: when the folder was made.
    """

    alias: Text = ""
    repo_id: Text = ""
    weights_license: Text = ""
    profile: Text = ""
    commands: tuple[Command, ...] = ()
    made: Circumstances = Field(default_factory=Circumstances)


@dataclass(frozen=True, config=STRICT)
class Photographs:
    """Some photographs: how many, and their fingerprint."""

    n: Count
    sha256: Text = ""


@dataclass(frozen=True, config=STRICT)
class TestPhotographs:
    """Test photographs of both kinds, and the fingerprint of them and their masks."""

    __test__ = False  # its name looks like a test case's to pytest

    n_good: Count
    n_anomalous: Count
    sha256: Text = ""


@dataclass(frozen=True, config=STRICT)
class Split:
    """Whether training and test photographs are the data set's own ones; else what differs."""

    official: bool
    reason: Text = ""

    @property
    def words(self) -> str:
        """ "official", or "not the official one" and why."""
        return "official" if self.official else f"not the official one: {self.reason}" if self.reason else "unofficial"


@dataclass(frozen=True, config=STRICT)
class DatasetFacts:
    """Photographs that a model was trained, calibrated and evaluated on.

    Args:
        license: of the photographs, identifier of the Hub.
        hub_id: of the data set on the Hub, where it is there.
        note: what a reader of the figures must know.
        split: None where the data set has none, or there is no test set.
        photograph: usual height and width in pixels of the good ones; None: not known.
        remembered: how many the memory was filled from, those that were held out and accepted ones among them; None: it
            is not known, or there is no memory.
    """

    name: Text = ""
    license: Text = ""
    homepage: Text = ""
    hub_id: Text = ""
    note: Text = ""
    split: Split | None = None
    photograph: tuple[Count, Count] | None = None
    train: Photographs | None = None
    held_out: Photographs | None = None
    test: TestPhotographs | None = None
    remembered: Count | None = None


@dataclass(frozen=True, config=STRICT)
class StartingPoint:
    """The weights that a training started from."""

    source: Text = ""
    sha256: Text = ""


@dataclass(frozen=True, config=STRICT)
class TrainingFacts:
    """How the network was trained.

    Args:
        settings: `TrainingConfig.to_dict`.
        steps: optimiser steps.
        seconds: of the steps together.
        final_losses: means over the last steps, by name.
        precision: "bf16" or "no".
        starting_weights: where the encoders started.
        made: when the network was trained, where that was not when the folder was made.
    """

    settings: Settings
    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    final_losses: dict[str, float]
    precision: Text
    starting_weights: StartingPoint
    made: Circumstances | None = None

    @property
    def seed(self) -> int:
        """Seed of the training."""
        value = self.settings.get("seed")
        return value if isinstance(value, int) else 0

    @property
    def teacher(self) -> str:
        """Name of the teacher, see `TrainingConfig`."""
        return str(self.settings.get("teacher") or "")


@dataclass(frozen=True, config=STRICT)
class CalibrationFacts:
    """What a model was before its threshold was chosen anew on other photographs.

    Args:
        alias, repo_id, weights_sha256: of the model before.
        held_out: photographs of its threshold.
        calibration: its threshold; None: it had none.
        anomaly_map: that judged then.
        trained_map: that judged after the training, whatever calibrations came since.
        training_results: whether the results of the training are known.
    """

    alias: Text = ""
    repo_id: Text = ""
    weights_sha256: Text = ""
    held_out: Photographs | None = None
    calibration: Calibration | None = None
    anomaly_map: MapName = "aggregation"
    trained_map: MapName = "aggregation"
    training_results: bool = True
