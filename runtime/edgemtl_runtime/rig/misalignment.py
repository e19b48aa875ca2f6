"""Are the registered pictures still in line? A watch on the shift between them that is left while they run.

Both pictures become fields of edge direction, doubled in angle so that a bright edge and a dark one are the same:
g^2 / |g|^1.5 of the complex gradient g. They are correlated by phase, as in Fitch, Kadyrov, Christmas and Kittler,
"Orientation correlation" (BMVC 2002), and the cross-power spectra of many pairs added up: what the cameras see in
common makes one peak, all else averages out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import opencv
from .geometry import Size

WORK_SIDE_PX = 160
"""The longer side of the pictures that are compared; a shift is still had to a fraction of its pixel."""
SURE_Z = 8.0
"""A peak this many standard deviations above the rest; unrelated pictures give 3 to 5, real pairs 17 to 35."""
SURE_RATIO = 1.8
"""A peak this many times the second one."""
FLOOR = 4.0
"""Squared gradient, in grey levels a pixel, below which an edge is noise."""


class Misalignment:
    """Measures the shift between registered pairs; feed it every pair, it looks at each ``every``-th.

    ``size`` is that of the pictures, (height, width); ``seen`` (height, width) says where both cameras see, so that
    the border of what they do not see is no edge. After every ``window`` pairs looked at ``shift_px`` is how far the
    ir picture lies right of and below the rgb picture, (dx, dy), or None while unsure; ``z_score`` is how sure.
    """

    def __init__(
        self,
        size: Size,
        seen: NDArray[np.bool_] | None = None,
        limit_px: float = 4.0,
        every: int = 10,
        window: int = 20,
    ) -> None:
        if min(size) < 32 or every < 1 or window < 1 or not limit_px > 0:
            raise EdgemtlError(f"cannot watch pictures of {size}, every {every}, window {window}, limit {limit_px} px")
        self.size, self.limit_px, self.every, self.window = size, limit_px, every, window
        self.scale = min(1.0, WORK_SIDE_PX / max(size))
        self.work: Size = round(size[0] * self.scale), round(size[1] * self.scale)
        self.weight = _weight(self.work, seen, size)
        self.power = np.zeros((*self.work, 2), np.float32)
        self.fed = self.added = 0
        self.shift_px: tuple[float, float] | None = None
        self.z_score = 0.0
        self.in_a_row = 0

    def feed(self, rgb: NDArray[Any], ir: NDArray[Any]) -> None:
        """Take a pair: ``rgb`` and the registered ``ir``, (H, W) or (H, W, C) uint8 of the same size."""
        self.fed += 1
        if (self.fed - 1) % self.every:
            return
        cv2 = opencv()
        spectra = [self._spectrum(image) for image in (ir, rgb)]
        cross = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
        self.power += cross / (np.sqrt((cross**2).sum(2, keepdims=True)) + 1e-9)
        self.added += 1
        if self.added == self.window:
            self._conclude()

    def _spectrum(self, image: NDArray[Any]) -> NDArray[np.float32]:
        cv2 = opencv()
        if image.shape[:2] != self.size:
            raise ValueError(f"watching pictures of {self.size}, got {image.shape[:2]}")
        small: NDArray[Any] = cv2.resize(image, self.work[::-1], interpolation=cv2.INTER_AREA)
        grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        x, y = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        squares = x * x, y * y
        weight = self.weight / (squares[0] + squares[1] + FLOOR) ** 0.75
        field = cv2.merge([(squares[0] - squares[1]) * weight, 2 * x * y * weight])
        return np.asarray(cv2.dft(field), np.float32)

    def _conclude(self) -> None:
        shift, self.z_score, ratio = _peak(self.power)
        sure = self.z_score >= SURE_Z and ratio >= SURE_RATIO
        self.shift_px = (shift[0] / self.scale, shift[1] / self.scale) if sure else None
        self.in_a_row = self.in_a_row + 1 if sure and math.hypot(*self.shift_px or (0, 0)) > self.limit_px else 0
        self.power[:] = 0
        self.added = 0

    def warning(self) -> str | None:
        """Return a line when two windows in a row were sure of a shift above the limit, None otherwise."""
        if self.shift_px is None or self.in_a_row < 2:
            return None
        dx, dy = self.shift_px
        return (
            f"the thermal picture lies {abs(dx):.0f} px {'right' if dx > 0 else 'left'} and {abs(dy):.0f} px "
            f"{'below' if dy > 0 else 'above'} of where the rig puts it; calibrate again, or give --distance"
        )


def _weight(work: Size, seen: NDArray[np.bool_] | None, size: Size) -> NDArray[np.float32]:
    """Return how much each pixel counts: a Hann window over what both cameras see, nothing at its border."""
    cv2 = opencv()
    there = np.ones(size, np.uint8) if seen is None else np.asarray(seen, np.uint8)
    if there.shape != size or not there.any():
        raise EdgemtlError("the cameras see nothing in common; check the rig file")
    rows, columns = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    small = cv2.resize(there * 255, work[::-1], interpolation=cv2.INTER_AREA) == 255
    inner = cv2.erode(small.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(np.float32)
    window = np.zeros(work, np.float32)
    top, bottom = (round(v * work[0] / size[0]) for v in (rows[0], rows[-1] + 1))
    left, right = (round(v * work[1] / size[1]) for v in (columns[0], columns[-1] + 1))
    window[top:bottom, left:right] = np.outer(np.hanning(bottom - top), np.hanning(right - left))
    return np.asarray(window * cv2.GaussianBlur(inner, (0, 0), 2.0) * inner, np.float32)


def _peak(power: NDArray[np.float32]) -> tuple[tuple[float, float], float, float]:
    """Return the shift (dx, dy) of a summed spectrum, its z-score, and its height over the second peak's.

    Shifts of up to an eighth of the longer side are looked for; the place is that of a parabola's top.
    """
    cv2 = opencv()
    height, width = power.shape[:2]
    surface = np.fft.fftshift(cv2.dft(power, flags=cv2.DFT_INVERSE)[:, :, 0])
    reach = min(max(height, width) // 8, height // 2 - 2, width // 2 - 2)
    cy, cx = height // 2, width // 2
    near = cv2.GaussianBlur(surface, (0, 0), 1.0)[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
    y, x = (int(v) for v in np.unravel_index(int(near[1:-1, 1:-1].argmax()), (2 * reach - 1, 2 * reach - 1)))
    y, x = y + 1, x + 1
    rows, columns = np.ogrid[: len(near), : len(near)]
    rest = near[(np.abs(rows - y) > 3) | (np.abs(columns - x) > 3)]
    above, spread = float(near[y, x] - rest.mean()), float(rest.std())
    if not spread > 0 or not above > 0:
        return (0.0, 0.0), 0.0, 0.0
    dx, dy = _top(near[y, x - 1 : x + 2]), _top(near[y - 1 : y + 2, x])
    second = max(float(rest.max() - rest.mean()), 1e-9 * above)
    return (x - reach + dx, y - reach + dy), above / spread, above / second


def _top(values: NDArray[Any]) -> float:
    """Return where a parabola through three values has its top, in steps from the middle one."""
    before, middle, after = (float(v) for v in values)
    curve = 2 * middle - before - after
    return max(-0.5, min(0.5, (after - before) / 2 / curve)) if curve > 0 else 0.0
