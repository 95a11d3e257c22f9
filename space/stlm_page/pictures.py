"""What the page shows of a prediction: display-sized pictures, words, files to download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from gradio import processing_utils, utils

from stlm_hub.calibration.threshold import MIN_HELD_OUT, expected_false_alarm_rate
from stlm_hub.drawing import heatmap as render
from stlm_hub.predict.prediction import VERDICTS, Prediction, Verdict
from stlm_hub.wording import percent

from .models import LoadedModel
from .scale import score_scale

SIGNS: dict[Verdict, tuple[str, str]] = {
    "pass": ("normal", "✓"),
    "review": ("review", "?"),
    "reject": ("anomalous", "▲"),
    "unfamiliar": ("unfamiliar", "≠"),
}
"""Class of the style sheet and sign of each verdict."""

MIN_SIDE, MAX_SIDE = 720, 1400  # px, longer side of pictures on the page; downloads have the photograph's own size
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Pictures:
    """Paths of pictures in the page's cache, all of one size: the photograph, its heatmap, the outlined defects."""

    photograph: str
    heatmap: str
    outline: str


def pictures(prediction: Prediction) -> Pictures:
    """Draws a prediction at display size. Where it shrinks, a small defect keeps its colour."""
    height, width = prediction.anomaly_map.shape
    scale = min(max(1.0, MIN_SIDE / max(height, width)), MAX_SIDE / max(height, width))
    image, anomaly_map = prediction.image, prediction.anomaly_map
    mask = prediction.mask
    if scale != 1:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        anomaly_map = render.resize_map(anomaly_map, size)
        mask = render.resize_map(mask.astype(np.float32), size) >= 0.5
    return Pictures(
        keep_jpeg(image, "photograph.jpg"),
        keep_jpeg(render.overlay(image, anomaly_map, prediction.threshold, strength=0.75), "heatmap.jpg"),
        keep_jpeg(render.draw_contour(image, mask), "outline.jpg"),
    )


def thumbnail(prediction: Prediction, side: int = 320) -> str:
    """Path of the outlined photograph, at most `side` px."""
    height, width = prediction.anomaly_map.shape
    scale = min(1.0, side / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    image = cv2.resize(prediction.image, size, interpolation=cv2.INTER_AREA)
    mask = render.resize_map(prediction.mask.astype(np.float32), size) >= 0.5
    return keep_jpeg(render.draw_contour(image, mask), "thumbnail.jpg")


def keep_jpeg(image: np.ndarray, name: str) -> str:
    """Path of a picture in the page's cache: HxWx3 uint8 RGB as JPEG."""
    return _keep(_jpeg(image), name)


def verdict(prediction: Prediction, model: LoadedModel, seconds: float) -> str:
    """The verdict in words, on the scale, with what was marked and how long it took. HTML."""
    height, width = prediction.anomaly_map.shape
    return (
        f"{verdict_heading(prediction)}"
        f"<p>{_why(prediction)}</p>"
        f"{scale(model, prediction.threshold, prediction.review_threshold, prediction.score)}{_notes(prediction)}"
        f'<p class="small">{legend(model)} Judged in {1000 * seconds:.0f} ms; {width} x {height} px.</p></section>'
    )


def scale(model: LoadedModel, threshold: float, review_threshold: float | None, score: float | None = None) -> str:
    """`score_scale` with the scores that a model was calibrated on. HTML."""
    return score_scale(
        model.normal_scores, threshold, score, probe_scores=model.probe_scores, review_threshold=review_threshold
    )


def verdict_heading(prediction: Prediction) -> str:
    """The beginning of a verdict, whose `section` is still open: sign and word. HTML."""
    kind, sign = SIGNS[prediction.verdict]
    word, _ = VERDICTS[prediction.verdict]
    return (
        f'<section class="verdict {kind}" role="status" aria-label="Verdict">'
        f'<p class="word"><span class="sign" aria-hidden="true">{sign}</span> {word}</p>'
    )


def _notes(prediction: Prediction) -> str:
    """What may make the photograph other than it was meant. HTML."""
    return "".join(f'<p class="note"><strong>Note:</strong> {escape(note)}</p>' for note in prediction.notes)


def _why(prediction: Prediction) -> str:
    score, threshold = render.distinct([prediction.score, prediction.threshold])
    _, meaning = VERDICTS[prediction.verdict]
    if prediction.verdict == "unfamiliar":
        return f"{meaning} Photograph the part as in those, or choose another model."
    if prediction.verdict == "reject":
        marked = percent(float(prediction.mask.mean()))
        return f"{meaning} The anomaly score {score} reaches the threshold {threshold}; {marked} of it is marked."
    if prediction.verdict == "review":
        return (
            f"{meaning} The anomaly score {score} is just below the threshold {threshold}. Nothing is marked; look at "
            "where the heatmap is brightest."
        )
    return f"{meaning} The anomaly score {score} is below the threshold {threshold}. Nothing is marked."


def threshold_words(model: LoadedModel, threshold: float) -> str:
    """What a threshold stands for: the false-alarm rate, on how many photographs that rests. Markdown."""
    scores = model.normal_scores
    if len(scores) < MIN_HELD_OUT:
        return "This model comes without the scores of good parts, so the false-alarm rate of a threshold is not known."
    rate = expected_false_alarm_rate(scores, threshold)
    reached = sum(score >= threshold for score in scores)
    reach = "reaches" if reached == 1 else "reach"
    own = " (the calibrated one)" if abs(threshold - model.threshold) < 5e-4 else ""
    return (
        f"**At {_number(threshold)}{own} about {percent(rate)} of good parts are flagged by mistake.** "
        f"Of {len(scores)} good photographs {reached} {reach} it.{_missed_probes(model, threshold)}"
    )


def _missed_probes(model: LoadedModel, threshold: float) -> str:
    """What a threshold costs: the share of pseudo anomalies below it."""
    probes = model.probe_scores
    if not probes:
        return ""
    missed = sum(score < threshold for score in probes) / len(probes)
    return f" Of {len(probes)} faint defects painted on good photographs it misses {percent(missed)}."


def panel_bytes(prediction: Prediction, title: str) -> bytes:
    """Photograph, heatmap and outline side by side, encoded as PNG."""
    return _png(cv2.cvtColor(prediction.panel(title), cv2.COLOR_RGB2BGR))


def mask_bytes(prediction: Prediction) -> bytes:
    """The mask in the photograph's size, 255 = anomalous, encoded as PNG."""
    return png_of_mask(prediction.mask)


def png_of_mask(mask: np.ndarray) -> bytes:
    """HxW bool, 255 = True, encoded as PNG."""
    return _png(mask.astype(np.uint8) * 255)


def panel_png(prediction: Prediction, title: str) -> str:
    """Photograph, heatmap and outline side by side, as a PNG file."""
    return _keep(panel_bytes(prediction, title), f"{title}_panel.png")


def mask_png(prediction: Prediction, title: str) -> str:
    """The mask in the photograph's size, 255 = anomalous, as a PNG file."""
    return _keep(mask_bytes(prediction), f"{title}_mask.png")


def mask_for_report(mask: np.ndarray, title: str) -> str:
    """HxW bool as a PNG file that `stlm report` finds: of the photograph's own name where that can be a file's."""
    return _keep(png_of_mask(mask), f"{title}_mask.png", also=" ()+,", longest=200)


def verdict_json(prediction: Prediction, model: LoadedModel, title: str, label: str) -> str:
    """Verdict, score, threshold, model and weights as a JSON file."""
    return _keep(json.dumps(facts(prediction, model, title, label), indent=2).encode(), f"{title}.json")


def facts(prediction: Prediction, model: LoadedModel, title: str, label: str) -> dict[str, Any]:
    """Plain data of one verdict."""
    scores = model.normal_scores
    known = len(scores) >= MIN_HELD_OUT
    return {
        "photograph": title,
        "model": label,
        "weights_revision": model.local.revision,
        **prediction.to_dict(),
        "expected_false_alarm_rate": expected_false_alarm_rate(scores, prediction.threshold) if known else None,
    }


def empty_verdict(text: str) -> str:
    """The verdict's place before there is one. HTML."""
    return f'<section class="verdict empty" role="status" aria-label="Verdict"><p>{escape(text)}</p></section>'


def legend(model: LoadedModel) -> str:
    """What the bars of the scale are."""
    good, painted = len(model.normal_scores), len(model.probe_scores)
    if not good:
        return ""
    other = f", orange of {painted} faint defects painted on them" if painted else ""
    return f"Blue bars: scores of {good} photographs of good parts{other}."


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 0.9995 else f"{value:.5g}"


def _jpeg(image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # sharp colours
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def _keep(data: bytes, name: str, also: str = "", longest: int = 60) -> str:
    """Writes into the page's cache, from which Gradio serves and, after an hour, deletes.

    Of the name stay letters, digits, "._-" and the characters `also`, and the last `longest` in at most 240 bytes.
    """
    safe = "".join(char if char.isalnum() or char in f"._-{also}" else "_" for char in name)[-longest:]
    while len(safe.encode()) > 240:
        safe = safe[1:]
    return processing_utils.save_bytes_to_cache(data, safe, utils.get_upload_folder())
