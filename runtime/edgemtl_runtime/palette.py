"""Palette: the colours of classes."""

from __future__ import annotations

import numpy as np

PALETTE = np.array(
    [(230, 75, 60), (70, 190, 90), (80, 150, 250), (240, 190, 50), (180, 100, 220), (60, 200, 200), (240, 130, 180)],
    np.uint8,
)
"""One RGB colour a class, repeated past its end."""


def colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class."""
    r, g, b = PALETTE[index % len(PALETTE)].tolist()
    return r, g, b
