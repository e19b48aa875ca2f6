"""Footer of a drawn panel: its name, and the scale of its colours."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from .scales import ColourBar, ColourKey, Scale
from .text import put, shortened, text_size

LINES = 2
"""Lines of a footer, where no key needs more: a name with a bar, and the ticks of the bar."""
MAX_KEY_LINES = 4
GROUND, TEXT, QUIET = 24, (255, 255, 255), (200, 200, 200)
Entry = tuple[str, tuple[int, int, int]]


def line_height(text: float) -> int:
    """Return the height of a line of text in pixels; ``text`` is its scale in OpenCV's units."""
    return text_size("Ag", text)[1] + 5


def footer_lines(names: Iterable[str], scales: Iterable[Scale | None], width: int, text: float) -> int:
    """Return the lines that the footers of panels with these names and scales need; of one image all have as many."""
    keys = [(n, s) for n, s in zip(names, scales, strict=True) if isinstance(s, ColourKey)]
    return max([LINES, *(len(_key_lines(name, key, width, text)[0]) for name, key in keys)])


def footer(name: str, scale: Scale | None, width: int, text: float, lines: int) -> NDArray[np.uint8]:
    """Return a strip of ``lines`` lines with a panel's name and scale, (H, W, 3) uint8 RGB."""
    step = line_height(text)
    strip = np.full((lines * step + 4, width, 3), GROUND, np.uint8)
    put(strip, shortened(name, text, round(0.4 * width) if scale else width - 8), (4, 3), text, TEXT)
    if isinstance(scale, ColourBar):
        _draw_bar(strip, scale, name, text)
    elif isinstance(scale, ColourKey):
        _draw_key(strip, scale, name, text)
    return strip


def _name_width(name: str, width: int, text: float) -> int:
    return text_size(shortened(name, text, round(0.4 * width)), text)[0] + round(40 * text)


def _draw_bar(strip: NDArray[np.uint8], bar: ColourBar, name: str, text: float) -> None:
    step, width = line_height(text), strip.shape[1]
    left, right = max(_name_width(name, width, text), round(0.2 * width)), width - 8
    colours = np.array(bar.colours, np.uint8)[None]
    strip[4 : step - 1, left:right] = cv2.resize(colours, (right - left, step - 5), interpolation=cv2.INTER_LINEAR)
    ends = [tick for tick in bar.ticks if tick[0] in (0.0, 1.0)]
    drawn: list[tuple[int, int]] = []
    for position, label in [*ends, *(tick for tick in bar.ticks if tick not in ends)]:
        size, x = text_size(label, text)[0], round(left + position * (right - 1 - left))
        start = min(max(x - size // 2, left - 4), right + 4 - size)
        if any(start < other_end + 8 and start + size + 8 > other_start for other_start, other_end in drawn):
            continue
        drawn.append((start, start + size))
        strip[step - 3 : step + 2, x] = TEXT
        put(strip, label, (start, step + 2), text, QUIET)


def _draw_key(strip: NDArray[np.uint8], key: ColourKey, name: str, text: float) -> None:
    step, chip = line_height(text), round(25 * text)
    lines, more = _key_lines(name, key, strip.shape[1], text)
    for row, line in enumerate(lines):
        for x, (label, colour) in line:
            y = row * step + 4
            cv2.rectangle(strip, (x, y), (x + chip - 1, y + step - 7), colour, cv2.FILLED)
            put(strip, label, (x + chip + 4, row * step + 3), text, QUIET)
    if more:
        put(
            strip,
            f"+{more}",
            (strip.shape[1] - text_size(f"+{more}", text)[0] - 4, (len(lines) - 1) * step + 3),
            text,
            QUIET,
        )


def _key_lines(name: str, key: ColourKey, width: int, text: float) -> tuple[list[list[tuple[int, Entry]]], int]:
    """Return the entries by line, each with its left edge in pixels, and the number of those that have no room."""
    chip, gap = round(25 * text) + 4, round(25 * text)
    start = x = _name_width(name, width, text)
    lines: list[list[tuple[int, Entry]]] = [[]]
    for done, (label, colour) in enumerate(key.entries):
        label = shortened(label, text, round(0.45 * width))
        size = chip + text_size(label, text)[0]
        reserve = text_size("+999", text)[0] + 8 if len(lines) == MAX_KEY_LINES else 4
        if x + size > width - reserve and x > start:
            if len(lines) == MAX_KEY_LINES:
                return lines, len(key.entries) - done
            lines.append([])
            x = start
        lines[-1].append((x, (label, colour)))
        x += size + gap
    return lines, 0
