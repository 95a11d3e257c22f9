"""Pictures of a prediction: heatmap on an absolute colour scale, outline, side-by-side panel.

One colour always means the same thing. The scale depends on the threshold alone, never on the values of one picture, so
a good part looks calm and two panels of one model can be compared. Blue and slate are below the threshold, orange and
yellow at or above it, with a step in hue and lightness between them; lightness never falls as the value rises. The
scheme is readable with every common colour blindness and in a grey print.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import ConfigError, ImageError

SPAN = 4.0
"""Log-odds from the threshold to either end of the colour scale: odds 55 times smaller or larger."""

_CALM = ((10, 30, 70), (32, 72, 128), (92, 116, 142))  # farthest below the threshold ... just below it
_HOT = ((240, 110, 20), (252, 166, 32), (255, 230, 90))  # at the threshold ... farthest above it
_OUTLINE_BRIGHT, _OUTLINE_DARK = (255, 226, 60), (15, 15, 25)

TILE_AREA = 380 * 380  # pixels of each of the three tiles of a panel, whatever the size of the photograph
TILE_MAX_SIDE = 1000
_MARGIN = 20
_TINY = 1e-6  # probabilities are cut here before their log-odds are taken
_INK, _PALE_INK, _PAPER = (28, 32, 40), (96, 104, 116), (255, 255, 255)


def _colour_table() -> np.ndarray:
    """256x3 float32: entries 0-127 are below the threshold, 128-255 at or above it."""
    steps = np.linspace(0, 2, 128)
    halves = [np.stack([np.interp(steps, range(3), c) for c in zip(*ends, strict=True)], 1) for ends in (_CALM, _HOT)]
    return np.concatenate(halves).astype(np.float32)


def _opacity_table() -> np.ndarray:
    """256 float32 in [0, 1]: almost nothing far below the threshold, so that the photograph stays as it is."""
    below = 0.55 * np.linspace(0, 1, 128) ** 2
    above = np.linspace(0.8, 1, 128)
    return np.concatenate([below, above]).astype(np.float32)


_COLOURS = _colour_table()
_OPACITY = _opacity_table()


def colorize(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """Anomaly map in colours that are fixed given the threshold.

    The place on the colour scale is the difference in log-odds between value and threshold, cut at `SPAN` to either
    side. Map values are probabilities and thresholds may be very small or close to 1; in log-odds "ten times as likely
    as the threshold" is visible at 0.001 as it is at 0.1, where a scale linear in probability would show one flat
    colour. A value is in the upper half of the scale exactly if it is >= `threshold`, also where that is 0 or 1.

    Args:
        anomaly_map: HxW float in [0, 1].
        threshold: in [0, 1].

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        ImageError: the map is not HxW with values in [0, 1].
        ConfigError: the threshold is not in [0, 1].
    """
    _check_map(anomaly_map)
    return np.rint(_COLOURS).astype(np.uint8)[_scale_index(anomaly_map, threshold)]


def overlay(image: np.ndarray, anomaly_map: np.ndarray, threshold: float, strength: float = 0.6) -> np.ndarray:
    """Heatmap over the photograph. Far below the threshold the photograph shows through untouched.

    Args:
        image: HxWx3 uint8 RGB.
        anomaly_map: HxW float in [0, 1].
        threshold: in [0, 1].
        strength: opacity of the colours at the top of the scale, in [0, 1].

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        ImageError: image and map are not of these kinds or differ in size.
        ConfigError: threshold or strength is not in [0, 1].
    """
    _check_image(image, anomaly_map, "anomaly map")
    _check_map(anomaly_map)
    _check_fraction("strength", strength)
    index = _scale_index(anomaly_map, threshold)
    opacity = (strength * _OPACITY)[index][..., None]
    blend = _COLOURS[index]
    blend -= image
    blend *= opacity
    blend += image
    return np.rint(blend, out=blend).astype(np.uint8)


def draw_contour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Photograph with an outline around each defect: a bright line that hugs it and a dark line around that.

    The lines lie outside the mask, so that they never cover a defect, however small; only where the mask reaches the
    edge of the picture they turn inwards. Each is 1/200 of the geometric mean of the sides wide, at least one pixel.

    Args:
        image: HxWx3 uint8 RGB.
        mask: HxW bool, True where anomalous.

    Returns:
        HxWx3 uint8 RGB, a copy.

    Raises:
        ImageError: image and mask are not of these kinds or differ in size.
    """
    _check_image(image, mask, "mask")
    if mask.dtype != np.bool_:
        raise ImageError(f"The mask is of {mask.dtype}; pass a bool array, for example anomaly_map >= threshold.")
    result = image.copy()
    if not mask.any():
        return result
    height, width = mask.shape
    line = max(1, round((height * width) ** 0.5 / 200))
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # 0 in the mask
    rows, columns = np.arange(height), np.arange(width)
    edge = np.minimum.outer(np.minimum(rows, rows[::-1]), np.minimum(columns, columns[::-1])) + 1  # 1 on the edge
    distance = np.where(mask, edge, outside)
    result[distance < 2 * line + 0.5] = _OUTLINE_DARK
    result[distance < line + 0.5] = _OUTLINE_BRIGHT
    return result


def panel(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    threshold: float,
    mask: np.ndarray,
    score: float,
    is_anomalous: bool,
    title: str = "",
) -> np.ndarray:
    """Photograph, heatmap and outline next to each other (wide photographs: below each other) with verdict and scale.

    The tiles have a similar area for every photograph. Where the map is scaled down, each pixel shows the highest value
    it covers: a defect of few pixels does not fade in a large photograph.

    Args:
        image: HxWx3 uint8 RGB.
        anomaly_map: HxW float in [0, 1].
        threshold: in [0, 1].
        mask: HxW bool, True where anomalous.
        score: anomaly score.
        is_anomalous: the verdict, printed in words.
        title: printed above the tiles, for example a file name; shortened where it is too long. The built-in font has
            ASCII letters only: accents are dropped, other letters become "?".

    Returns:
        hxwx3 uint8 RGB.

    Raises:
        ImageError: image, map and mask are not of these kinds or differ in size.
        ConfigError: the threshold is not in [0, 1].
    """
    _check_image(image, anomaly_map, "anomaly map")
    _check_image(image, mask, "mask")
    _check_map(anomaly_map)
    size = _tile_size(*mask.shape)
    photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA if mask.size > TILE_AREA else cv2.INTER_CUBIC)
    tiles = {
        "Photograph": photo,
        "Anomaly map": overlay(photo, resize_map(anomaly_map.astype(np.float32), size), threshold, strength=0.75),
        "Outline" if mask.any() else "Outline: nothing marked": draw_contour(
            photo, resize_map(mask.astype(np.float32), size) >= 0.5
        ),
    }
    return np.array(_lay_out(tiles, threshold, score, is_anomalous, _ascii(title[:200])))


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales an HxW float32 map to (width, height) for display.

    Where it shrinks each pixel becomes the highest value that it covers, so that a small defect does not fade; where it
    grows, values are interpolated.
    """
    (height, width), (columns, rows) = values.shape, size
    if height < rows or width < columns:
        return cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    highest = np.maximum.reduceat(values, np.arange(rows) * height // rows, axis=0)
    return np.maximum.reduceat(highest, np.arange(columns) * width // columns, axis=1)


def distinct(values: list[float], digits: int = 3) -> list[str]:
    """Numbers as texts, with as few digits as keep different ones apart: a score never looks equal to its threshold."""
    while True:
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)) or digits == 9:
            return texts
        digits += 1


def _lay_out(
    tiles: dict[str, np.ndarray], threshold: float, score: float, is_anomalous: bool, title: str
) -> Image.Image:
    height, width = next(iter(tiles.values())).shape[:2]
    columns, rows = (1, len(tiles)) if width > 2 * height else (len(tiles), 1)
    cell = max(width, 640 // columns)  # narrow tiles are centred in cells that leave the header its room
    inner = columns * (cell + _MARGIN) - _MARGIN
    header, caption, footer = (104 if title else 72), 24, 76
    scale_top = header + rows * (caption + height + _MARGIN)
    canvas = Image.new("RGB", (inner + 2 * _MARGIN, scale_top + footer), _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(draw, inner, threshold, score, is_anomalous, title)
    for number, (name, tile) in enumerate(tiles.items()):
        line, column = divmod(number, columns)
        left = _MARGIN + column * (cell + _MARGIN) + (cell - width) // 2
        top = header + line * (caption + height + _MARGIN)
        draw.text((left + width / 2, top), name, _PALE_INK, _font(16), anchor="ma")
        canvas.paste(Image.fromarray(tile), (left, top + caption))
    _draw_scale(canvas, draw, scale_top, inner, threshold)
    return canvas


def _draw_header(
    draw: ImageDraw.ImageDraw, inner: int, threshold: float, score: float, is_anomalous: bool, title: str
) -> None:
    top = 18
    if title:
        font = _font(20)
        if font.getlength(title) > inner:
            while font.getlength(title + "...") > inner:
                title = title[:-1]
            title += "..."
        draw.text((_MARGIN, top), title, _INK, font)
        top += 32
    verdict, badge = ("ANOMALOUS", (190, 62, 10)) if is_anomalous else ("normal", (32, 88, 150))
    right = _MARGIN + _font(22).getlength(verdict) + 28
    draw.rounded_rectangle((_MARGIN, top, right, top + 38), 8, badge)
    draw.text((_MARGIN + 14, top + 19), verdict, _PAPER, _font(22), anchor="lm")
    shown_score, shown_threshold = distinct([score, threshold])
    draw.text((right + 18, top + 19), f"score {shown_score}", _INK, _font(22), anchor="lm")
    left = right + 18 + _font(22).getlength(f"score {shown_score}") + 18
    draw.text((left, top + 19), f"threshold {shown_threshold}", _PALE_INK, _font(22), anchor="lm")


def _draw_scale(canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, inner: int, threshold: float) -> None:
    """The colour bar with its words above and map values below; the threshold is always in the middle."""
    middle, right = _MARGIN + inner / 2, _MARGIN + inner
    for x, word, anchor in ((_MARGIN, "normal", "la"), (right, "anomalous", "ra")):
        draw.text((x, top), word, _PALE_INK, _font(16), anchor=anchor)
    draw.text((middle, top), f"threshold {threshold:.3g}", _INK, _font(16), anchor="ma")
    bar = np.rint(_COLOURS).astype(np.uint8)[np.arange(inner) * 256 // inner]
    canvas.paste(Image.fromarray(np.repeat(bar[None], 14, axis=0)), (_MARGIN, top + 24))
    draw.line((middle, top + 19, middle, top + 42), _INK, 2)
    places = np.array([0, 0.25, 0.75, 1])
    values = 1 / (1 + np.exp(-(_log_odds(threshold) + SPAN * (2 * places - 1))))
    sensible = (values >= _TINY) & (values <= 1 - _TINY)  # not so on one side of a threshold of 0 or 1
    *numbers, _ = distinct([*values[sensible].tolist(), threshold], digits=2)
    for place, number in zip(places[sensible], numbers, strict=True):
        x = min(_MARGIN + place * inner, right - 1)
        text, anchor = {0: (f"< {number}", "la"), 1: (f"> {number}", "ra")}.get(place, (number, "ma"))
        draw.line((x, top + 38, x, top + 42), _PALE_INK, 1)
        draw.text((x, top + 45), text, _PALE_INK, _font(14), anchor=anchor)


def _scale_index(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """HxW entry of the colour table: 0-127 where the map is below the threshold, 128-255 where it is not."""
    _check_fraction("threshold", threshold)
    distance = np.minimum(np.abs(_log_odds(anomaly_map) - _log_odds(threshold)) / SPAN, 1)
    steps = np.rint(127 * distance).astype(np.uint8)
    return np.where(anomaly_map >= threshold, 128 + steps, 127 - steps)


def _log_odds(probability: np.ndarray | float) -> np.ndarray:
    inside = np.clip(np.asarray(probability, np.float32), _TINY, 1 - _TINY)
    return np.log(inside / (1 - inside))


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Width and height, in pixels, of a tile that shows a photograph of this size."""
    scale = min((TILE_AREA / (height * width)) ** 0.5, TILE_MAX_SIDE / max(height, width))
    return max(1, round(scale * width)), max(1, round(scale * height))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _ascii(text: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in plain)


def _check_image(image: np.ndarray, other: np.ndarray, what: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"The image is {image.shape} {image.dtype}; pass HxWx3 uint8 RGB, as load_image returns it.")
    if other.shape != image.shape[:2]:
        raise ImageError(
            f"The {what} is {other.shape}, the image {image.shape[:2]}; both need the same height and width."
        )


def _check_map(anomaly_map: np.ndarray) -> None:
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or anomaly_map.dtype.kind != "f":
        raise ImageError(f"The anomaly map is {anomaly_map.shape} {anomaly_map.dtype}; pass an HxW float array.")
    if not (anomaly_map.min() >= 0 and anomaly_map.max() <= 1):  # NaN compares False
        raise ImageError("The anomaly map has values outside [0, 1]; pass probabilities, not logits or scaled values.")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a number from 0 to 1, not {value!r:.60}.")
