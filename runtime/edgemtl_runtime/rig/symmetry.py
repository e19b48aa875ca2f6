"""Symmetries between two cameras' images: quarter turns and mirrorings, the eight elements of the dihedral group D4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matrices import Array

DIAGONAL, ANTIDIAGONAL = ((0, 1), (1, 0)), ((0, -1), (-1, 0))


@dataclass(frozen=True)
class Symmetry:
    """How directions of the first image (x right, y down) lie in the second one, and the option that takes it back."""

    matrix: tuple[tuple[int, int], tuple[int, int]]
    text: str
    rotate: int = 0
    """Degrees clockwise to open the second camera with, once it does not mirror; then both show the same side up."""

    @property
    def mirrored(self) -> bool:
        """Whether it reverses orientation."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c < 0

    @property
    def remedy(self) -> str:
        """What to do about it; empty for the identity."""
        off = "turn mirroring off in the camera that mirrors" if self.mirrored else ""
        turn = f"open the second one with ?rotate={self.rotate}" if self.rotate else ""
        return ", and ".join(part for part in (off, turn) if part)


SYMMETRIES = (
    Symmetry(((1, 0), (0, 1)), "upright"),
    Symmetry(((0, -1), (1, 0)), "turned by 90 degrees clockwise", 270),
    Symmetry(((-1, 0), (0, -1)), "upside down", 180),
    Symmetry(((0, 1), (-1, 0)), "turned by 90 degrees anticlockwise", 90),
    Symmetry(((-1, 0), (0, 1)), "mirrored left to right"),
    Symmetry(((1, 0), (0, -1)), "mirrored top to bottom"),
    Symmetry(DIAGONAL, "mirrored and turned by a quarter, x and y exchanged"),
    Symmetry(ANTIDIAGONAL, "mirrored and turned by a quarter, x and y exchanged and reversed"),
)


def nearest_symmetry(directions: Array) -> Symmetry:
    """Return the symmetry that is closest to a (2, 2) matrix from directions of the first image to the second's."""
    return max(SYMMETRIES, key=lambda symmetry: float((np.array(symmetry.matrix) * directions).sum()))
