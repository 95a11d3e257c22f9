"""The panel of a prediction: photograph, heatmap and outline side by side, with verdict and colour scale."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .heatmap import (
    COLOURS,
    GROUND_TRUTH_COLOUR,
    SPAN,
    check_anomaly_map,
    check_rgb_image,
    check_same_size,
    distinct,
    draw_contour,
    overlay,
    resize_map,
)
from .log_odds import EDGE, log_odds

TILE_AREA = 380 * 380  # pixels of a tile, whatever the size of the photograph
TILE_MAX_SIDE = 1000  # px
MARGIN = 20  # px
INK, PALE_INK, PAPER = (28, 32, 40), (96, 104, 116), (255, 255, 255)
BADGES = {"pass": (32, 88, 150), "review": (140, 100, 0), "reject": (190, 62, 10), "unfamiliar": (110, 50, 140)}
"""Background of each verdict."""


def panel(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    threshold: float,
    mask: np.ndarray,
    score: float,
    verdict: str,
    title: str = "",
    truth: np.ndarray | None = None,
) -> np.ndarray:
    """Draws photograph, heatmap and outline side by side, with the verdict above and the colour scale below.

    The tiles of wide photographs stand one below the other. Tiles have about the same area for every photograph. A map
    that is scaled down keeps its highest values, so a defect of a few pixels stays visible in a large photograph.

    Args:
        image: HxWx3 uint8 RGB.
        anomaly_map: HxW float in [0, 1].
        threshold: the model's threshold, in [0, 1].
        mask: HxW bool, True where the model marks an anomaly.
        score: anomaly score in [0, 1].
        verdict: one of `BADGES`, printed with a capital letter.
        title: printed above the tiles, for example a file name; a long one is shortened. The built-in font has ASCII
            letters only: accents are dropped, other letters become "?".
        truth: HxW bool, True where the defect really is; None where that is not known. It gets the second tile.

    Returns:
        uint8 RGB. Width and height depend on the aspect of the photograph and the number of tiles.

    Raises:
        ImageError: image, map or a mask has another shape, type or range, or they differ in size.
        ConfigError: the threshold is not in [0, 1].
    """
    made = tiles(image, anomaly_map, threshold, mask, truth)
    return np.array(_lay_out(made, threshold, score, verdict, ascii_text(title[:200])))


def tiles(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    threshold: float,
    mask: np.ndarray,
    truth: np.ndarray | None = None,
    area: int = TILE_AREA,
    max_side: int = TILE_MAX_SIDE,
) -> dict[str, np.ndarray]:
    """Draws the tiles of a panel. Arguments and errors are those of `panel`.

    Args:
        area: pixels of each tile; fewer where a side would be longer than `max_side`.
        max_side: longest side of a tile in pixels.

    Returns:
        uint8 RGB tiles of one size by caption, in the order of the panel.
    """
    check_rgb_image(image)
    check_same_size(image, anomaly_map, "anomaly map")
    check_same_size(image, mask, "mask")
    check_anomaly_map(anomaly_map)
    height, width = mask.shape
    size = tile_size(height, width, area, max_side)
    photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA if mask.size > area else cv2.INTER_CUBIC)
    made = {"Photograph": photo}
    if truth is not None:
        check_same_size(image, truth, "true mask")
        caption = "True defect" if truth.any() else "True defect: none"
        made[caption] = draw_contour(photo, _resize_mask(truth, size), GROUND_TRUTH_COLOUR)
    made["Anomaly map"] = overlay(photo, resize_map(anomaly_map.astype(np.float32), size), threshold, strength=0.75)
    made["Outline" if mask.any() else "Outline: nothing marked"] = draw_contour(photo, _resize_mask(mask, size))
    return made


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_map(mask.astype(np.float32), size) >= 0.5


def _lay_out(tiles: dict[str, np.ndarray], threshold: float, score: float, verdict: str, title: str) -> Image.Image:
    height, width = next(iter(tiles.values())).shape[:2]
    columns, rows = (1, len(tiles)) if width > 2 * height else (len(tiles), 1)
    cell = max(width, 640 // min(columns, 3))  # narrow tiles stand in wider cells, so that the header has room
    inner = columns * (cell + MARGIN) - MARGIN
    header, caption, footer = (104 if title else 72), 24, 76
    scale_top = header + rows * (caption + height + MARGIN)
    canvas = Image.new("RGB", (inner + 2 * MARGIN, scale_top + footer), PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(draw, inner, threshold, score, verdict, title)
    for number, (name, tile) in enumerate(tiles.items()):
        line, column = divmod(number, columns)
        left = MARGIN + column * (cell + MARGIN) + (cell - width) // 2
        top = header + line * (caption + height + MARGIN)
        draw.text((left + width / 2, top), name, PALE_INK, font(16), anchor="ma")
        canvas.paste(Image.fromarray(tile), (left, top + caption))
    draw_scale(canvas, draw, scale_top, inner, threshold)
    return canvas


def _draw_header(
    draw: ImageDraw.ImageDraw, inner: int, threshold: float, score: float, verdict: str, title: str
) -> None:
    top = 18
    if title:
        draw.text((MARGIN, top), shortened(title, 20, inner), INK, font(20))
        top += 32
    word = verdict.capitalize()
    right = MARGIN + font(22).getlength(word) + 28
    draw.rounded_rectangle((MARGIN, top, right, top + 38), 8, BADGES[verdict])
    draw.text((MARGIN + 14, top + 19), word, PAPER, font(22), anchor="lm")
    shown_score, shown_threshold = distinct([score, threshold])
    draw.text((right + 18, top + 19), f"score {shown_score}", INK, font(22), anchor="lm")
    left = right + 18 + font(22).getlength(f"score {shown_score}") + 18
    draw.text((left, top + 19), f"threshold {shown_threshold}", PALE_INK, font(22), anchor="lm")


def draw_scale(canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, inner: int, threshold: float) -> None:
    """Draws the colour scale with words above it and map values below. The threshold is in the middle.

    Args:
        canvas, draw: the picture to draw on, and its drawing context.
        top: upper edge of the scale in pixels.
        inner: width of the scale in pixels.
        threshold: in [0, 1].
    """
    middle, right = MARGIN + inner / 2, MARGIN + inner
    for x, word, anchor in ((MARGIN, "normal", "la"), (right, "anomalous", "ra")):
        draw.text((x, top), word, PALE_INK, font(16), anchor=anchor)
    draw.text((middle, top), f"threshold {threshold:.3g}", INK, font(16), anchor="ma")
    bar = np.rint(COLOURS).astype(np.uint8)[np.arange(inner) * 256 // inner]
    canvas.paste(Image.fromarray(np.repeat(bar[None], 14, axis=0)), (MARGIN, top + 24))
    draw.line((middle, top + 19, middle, top + 42), INK, 2)
    places = np.array([0, 0.25, 0.75, 1])
    values = 1 / (1 + np.exp(-(log_odds(threshold) + SPAN * (2 * places - 1))))
    sensible = (values >= EDGE) & (values <= 1 - EDGE)  # false on one side of a threshold of 0 or 1
    *numbers, _ = distinct([*values[sensible].tolist(), threshold], digits=2)
    for place, number in zip(places[sensible], numbers, strict=True):
        x = min(MARGIN + place * inner, right - 1)
        text, anchor = {0: (f"< {number}", "la"), 1: (f"> {number}", "ra")}.get(place, (number, "ma"))
        draw.line((x, top + 38, x, top + 42), PALE_INK, 1)
        draw.text((x, top + 45), text, PALE_INK, font(14), anchor=anchor)


def tile_size(height: int, width: int, area: int = TILE_AREA, max_side: int = TILE_MAX_SIDE) -> tuple[int, int]:
    """Width and height in pixels of a tile that shows a photograph of height x width pixels."""
    scale = min((area / (height * width)) ** 0.5, max_side / max(height, width))
    return max(1, round(scale * width)), max(1, round(scale * height))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font at a size in pixels."""
    return ImageFont.load_default(size)


def shortened(text: str, size: int, width: float) -> str:
    """The text, or its beginning and "...", so that it fits into `width` pixels at a font of `size` pixels."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def ascii_text(text: str) -> str:
    """The text in the letters of the built-in font: accents are dropped, other letters become "?"."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in plain)
