"""Text on images: legible on any ground, and measured before it is drawn."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import cv2
from numpy.typing import NDArray

FONT = cv2.FONT_HERSHEY_SIMPLEX
DRAWS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5
"""Whether OpenCV has glyphs outside of ASCII."""
REPLACED = {"…": "...", "°": " deg", "×": "x", "·": "-", "–": "-", "ß": "ss", "≥": ">="}
"""Characters that an older OpenCV draws as other ones."""


def drawable(text: str) -> str:
    """Return a text as this OpenCV can draw it: before version 5 without accents, a ? for each other character."""
    text = " ".join(text.split())
    if DRAWS_UNICODE or text.isascii():
        return text
    text = "".join(REPLACED.get(character, character) for character in text)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode("ascii")


@lru_cache(4096)
def text_size(text: str, size: float) -> tuple[int, int]:
    """Return the width and the height of a line of text in pixels, that below the baseline included."""
    (width, height), below = cv2.getTextSize(drawable(text), FONT, size, 1)
    return int(width), int(height) + int(below)


@lru_cache(4096)
def shortened(text: str, size: float, width: int) -> str:
    """Return a text that is at most ``width`` pixels wide: its end is cut off and replaced by an ellipsis."""
    if text_size(text, size)[0] <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_size(f"{text[:middle]}…", size)[0] <= width else (low, middle - 1)
    return f"{text[:low]}…"


def label_size(text: str, size: float) -> tuple[int, int]:
    """Return the width and the height, with its ground, of what `write` draws."""
    width, height = text_size(text, size)
    return width + 4, height + 3


def write(panel: NDArray[Any], text: str, origin: tuple[int, int], size: float, tone: tuple[int, int, int]) -> None:
    """Draw a line of text on a dark ground from ``origin`` (left, baseline), so that it is legible on any image."""
    text = drawable(text)
    (width, height), below = cv2.getTextSize(text, FONT, size, 1)
    x, y = max(1, min(origin[0], panel.shape[1] - width - 1)), origin[1]
    ground = panel[max(y - height - 2, 0) : y + below // 2 + 1, max(x - 1, 0) : x + width + 1]
    ground //= 3
    cv2.putText(panel, text, (x, y), FONT, size, tone, 1, cv2.LINE_AA)


def write_label(
    panel: NDArray[Any], text: str, corner: tuple[int, int], size: float, tone: tuple[int, int, int]
) -> None:
    """Draw a label of `label_size`, on a dark ground, with its top left corner at ``corner``."""
    x, y = corner
    width, height = label_size(text, size)
    ground = panel[y : y + height, x : x + width]
    ground //= 3
    put(panel, text, (x + 2, y + 1), size, tone)


def put(panel: NDArray[Any], text: str, corner: tuple[int, int], size: float, tone: tuple[int, int, int]) -> None:
    """Draw a line of text without a ground, with its top left corner at ``corner``."""
    text = drawable(text)
    (_, height), _ = cv2.getTextSize(text, FONT, size, 1)
    cv2.putText(panel, text, (corner[0], corner[1] + height), FONT, size, tone, 1, cv2.LINE_AA)
