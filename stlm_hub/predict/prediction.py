"""The result for one photograph: `Prediction`, or `Unusable`."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from PIL import Image

from ..errors import ConfigError, ImageError
from ..files.whole import replace_file
from ..validate import expanded

T = TypeVar("T")
Verdict = Literal["pass", "review", "reject", "unfamiliar"]

VERDICTS: dict[Verdict, tuple[str, str]] = {
    "pass": ("Pass", "Nothing on it differs enough from good parts."),
    "review": ("Review", "Few good parts score so high; look at it."),
    "reject": ("Reject", "It differs from good parts."),
    "unfamiliar": (
        "Unfamiliar",
        "It does not look like the photographs that the model learned from, so its score says nothing.",
    ),
}
"""Word and sentence of each verdict for people. Terminal, panels, page, tables and reports use only these."""


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Prediction:
    """The result of a detector for one photograph.

    Args:
        image: HxWx3 uint8 RGB as displayed, i.e. after EXIF rotation.
        anomaly_map: HxW float32 in [0, 1], in the frame of `image`; never re-normalised per image.
        score: anomaly score in [0, 1], from the highest map values at the network's size. Of a calibrated model
            it counts in limits of normal photographs, x / (1 + x): 0.5 is the limit, 0.67 is twice, 0.9 nine times as
            far.
        threshold: score at or above which the photograph is judged anomalous.
        mask: HxW bool, True where anomalous; None: `found_mask` of the other values.
        review_threshold: score at or above which a photograph below `threshold` is worth a second look; None: there
            is none.
        unfamiliarity: distance of the whole photograph from good ones, in limits: above 1 it is unfamiliar. 0: not
            measured.
        minimum_area: pixels of the smallest connected region that is outlined.
        backend: that computed it: "torch", "onnxruntime fp32", "openvino int8", ...
        calibrated: False: the detector's threshold comes from no calibration, so no false-alarm rate is promised.
        notes: sentences on why the photograph may not be what was meant, see `images.read_picture`.
    """

    image: np.ndarray
    anomaly_map: np.ndarray
    score: float
    threshold: float
    mask: np.ndarray = None  # type: ignore[assignment]  # filled on construction
    review_threshold: float | None = None
    unfamiliarity: float = 0.0
    minimum_area: float = 0.0
    backend: str = "torch"
    calibrated: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mask is None:
            mask = found_mask(self.anomaly_map, self.score, self.threshold, self.minimum_area)
            object.__setattr__(self, "mask", mask)

    @property
    def is_anomalous(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold

    @property
    def verdict(self) -> Verdict:
        """ "unfamiliar" if the whole photograph is unlike good ones; else reject, review or pass, by the score."""
        if self.unfamiliarity > 1:
            return "unfamiliar"
        if self.is_anomalous:
            return "reject"
        return "review" if self.review_threshold is not None and self.score >= self.review_threshold else "pass"

    def with_threshold(self, threshold: float, review_threshold: float | None = None) -> Prediction:
        """The same prediction judged at other thresholds in [0, 1]; the model does not run again.

        Args:
            threshold: see `Prediction`.
            review_threshold: at most `threshold`; None: moved in proportion, see `moved_review`.

        Raises:
            ConfigError: one is out of range.
        """
        threshold = checked_threshold(threshold)
        review = checked_review(review_threshold, threshold)
        if review is None and self.review_threshold is not None:
            review = moved_review(self.review_threshold, self.threshold, threshold)
        mask = found_mask(self.anomaly_map, self.score, threshold, self.minimum_area)
        return dataclasses.replace(self, threshold=threshold, review_threshold=review, mask=mask)

    def panel(self, title: str = "") -> np.ndarray:
        """Photograph, heatmap and outline side by side with the verdict: hxwx3 uint8 RGB."""
        from ..drawing.panel import panel  # training and evaluation draw nothing

        return panel(self.image, self.anomaly_map, self.threshold, self.mask, self.score, self.verdict, title=title)

    def show(self) -> None:
        """Opens the panel in the system's image viewer."""
        Image.fromarray(self.panel()).show()

    def save(self, path: str | Path, title: str = "") -> Path:
        """Writes the panel; the folder is made, the suffix (.png, .jpg, ...) decides the format.

        Raises:
            ImageError: the suffix names no format that can be written, or the file cannot be written.
        """
        from ..drawing.mark import marked

        path = expanded(path)
        encoded = io.BytesIO()
        form = Image.registered_extensions().get(path.suffix.lower())
        try:
            if form is None:
                raise ValueError(f"unknown file extension: {path.suffix}")
            Image.fromarray(self.panel(title)).save(encoded, form, **marked(form))
        except (OSError, ValueError, KeyError) as error:
            raise ImageError(f"{path} cannot be written ({error}); name a file that ends in .png or .jpg.") from error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, encoded.getvalue())
        except OSError as error:
            reason = error.strerror or error
            raise ImageError(f"{path} cannot be written ({reason}); free space, or name another place.") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: verdict, score, threshold, size, and the anomalous share of the pixels."""
        height, width = self.anomaly_map.shape
        return {
            "verdict": self.verdict,
            "is_anomalous": self.is_anomalous,
            "score": self.score,
            "threshold": self.threshold,
            "review_threshold": self.review_threshold,
            "unfamiliarity": self.unfamiliarity,
            "width": width,
            "height": height,
            "map_max": float(self.anomaly_map.max()),
            "anomalous_area": float(self.mask.mean()),
            "backend": self.backend,
            "calibrated": self.calibrated,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return json.dumps(self.to_dict())


@dataclass(frozen=True)
class Unusable:
    """A source that cannot be used as a photograph, and the error that says why."""

    source: object
    error: ImageError


def noted(answer: T, notes: tuple[str, ...]) -> T:
    """A prediction with notes on its photograph; an answer of another type as it is."""
    return dataclasses.replace(answer, notes=notes) if notes and isinstance(answer, Prediction) else answer


def found_mask(anomaly_map: np.ndarray, score: float, threshold: float, minimum_area: float = 0.0) -> np.ndarray:
    """HxW bool: where the map reaches the threshold. Empty if the score does not reach it.

    Args:
        anomaly_map: HxW float32 in [0, 1].
        score, threshold: in [0, 1].
        minimum_area: connected regions of fewer pixels are left out.
    """
    return without_specks((anomaly_map >= threshold) & (score >= threshold), minimum_area)


def without_specks(mask: np.ndarray, area: float) -> np.ndarray:
    """HxW bool -> same, without connected regions of fewer than `area` pixels."""
    if area <= 1 or not mask.any():
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= area
    large[0] = False  # the background
    return np.asarray(large[labels])


def checked_review(review_threshold: float | None, threshold: float) -> float | None:
    """The review threshold as a float, or None.

    Raises:
        ConfigError: it is not a number in [0, 1], or above `threshold`.
    """
    if review_threshold is None:
        return None
    review = checked_threshold(review_threshold)
    if review > threshold:
        raise ConfigError(f"The review threshold {review} lies above the threshold {threshold}; name one below it.")
    return review


def moved_review(review_threshold: float, before: float, threshold: float) -> float:
    """The review threshold that belongs to another threshold: the same share of it, counted in limits.

    Args:
        review_threshold: that belongs to `before`.
        before: old threshold.
        threshold: new threshold. All are in [0, 1].
    """
    if threshold == before or before in (0.0, 1.0):
        return min(review_threshold, threshold)
    if threshold == 1.0:
        return 1.0
    share = review_threshold / (1 - review_threshold) / (before / (1 - before))
    limits = share * threshold / (1 - threshold)
    return min(threshold, limits / (1 + limits))


def checked_threshold(threshold: float) -> float:
    """The threshold as a float.

    Raises:
        ConfigError: it is not a number in [0, 1].
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.floating)) or not 0 <= threshold <= 1:
        raise ConfigError(f"The threshold must be a number from 0 to 1, not {threshold!r}.")
    return float(threshold)
