"""What a detector says of one photograph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError, ImageError


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Prediction:
    """What a detector says of one photograph.

    Args:
        image: HxWx3 uint8 RGB as displayed, i.e. after EXIF rotation.
        anomaly_map: HxW float32 in [0, 1], in the frame of `image`; never re-normalised per image.
        score: anomaly score in [0, 1], the mean of the highest map values at the network's size.
        threshold: score at or above which the photograph is judged anomalous.
        mask: HxW bool, True where anomalous; None is `found_mask` of the others.
    """

    image: np.ndarray
    anomaly_map: np.ndarray
    score: float
    threshold: float
    mask: np.ndarray = None  # type: ignore[assignment]  # filled on construction

    def __post_init__(self) -> None:
        if self.mask is None:
            object.__setattr__(self, "mask", found_mask(self.anomaly_map, self.score, self.threshold))

    @property
    def is_anomalous(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold

    def with_threshold(self, threshold: float) -> Prediction:
        """The same prediction judged at another threshold in [0, 1]; the model does not run again."""
        return Prediction(self.image, self.anomaly_map, self.score, checked_threshold(threshold))

    def panel(self, title: str = "") -> np.ndarray:
        """Photograph, heatmap and outline side by side with the verdict: hxwx3 uint8 RGB."""
        from ..drawing.panel import panel  # training and evaluation draw nothing

        return panel(
            self.image, self.anomaly_map, self.threshold, self.mask, self.score, self.is_anomalous, title=title
        )

    def show(self) -> None:
        """Opens the panel in the system's image viewer."""
        Image.fromarray(self.panel()).show()

    def save(self, path: str | Path, title: str = "") -> Path:
        """Writes the panel; the folder is made, the suffix (.png, .jpg, ...) decides the format.

        Raises:
            ImageError: the suffix names no format that can be written, or the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.panel(title)).save(path)
        except (OSError, ValueError, KeyError) as error:
            raise ImageError(f"{path} cannot be written ({error}); name a file that ends in .png or .jpg.") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: verdict, score, threshold, size, and the anomalous share of the pixels."""
        height, width = self.anomaly_map.shape
        return {
            "is_anomalous": self.is_anomalous,
            "score": self.score,
            "threshold": self.threshold,
            "width": width,
            "height": height,
            "map_max": float(self.anomaly_map.max()),
            "anomalous_area": float(self.mask.mean()),
        }

    def __str__(self) -> str:
        return json.dumps(self.to_dict())


@dataclass(frozen=True)
class Unusable:
    """A source that is no photograph, and the error whose sentence says why."""

    source: object
    error: ImageError


def found_mask(anomaly_map: np.ndarray, score: float, threshold: float) -> np.ndarray:
    """HxW bool: where the map reaches the threshold; empty where the score does not."""
    return (anomaly_map >= threshold) & (score >= threshold)


def checked_threshold(threshold: float) -> float:
    """The threshold as a float.

    Raises:
        ConfigError: it is not a number in [0, 1].
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.floating)) or not 0 <= threshold <= 1:
        raise ConfigError(f"The threshold must be a number from 0 to 1, not {threshold!r}.")
    return float(threshold)
