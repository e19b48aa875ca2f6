"""Misalignment of registered images: the residual shift between them, by orientation correlation.

Both images become fields of edge direction, doubled in angle so that edges of either polarity are equal:
g^2 / |g|^1.5 of the complex gradient g. They are phase-correlated, as in Fitch, Kadyrov, Christmas and Kittler,
"Orientation correlation" (BMVC 2002), and the cross-power spectra of many pairs are summed: common structure makes
one peak, all else averages out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgemtlError
from .calibration_board import opencv
from .matrices import Size

WORK_SIDE_PX = 160
"""Longer side of the images that are compared; the shift is estimated to a fraction of their pixels."""
MIN_Z_SCORE = 8.0
"""Height of a significant peak in standard deviations; unrelated images have 3 to 5, real pairs 17 to 35."""
MIN_PEAK_RATIO = 1.8
"""Height of a significant peak over the second one."""
FLOOR = 4.0
"""Squared gradient, in grey levels per pixel, below which an edge is noise."""


class Misalignment:
    """Estimates the shift between registered pairs; of the pairs that it is fed it uses each ``every``-th.

    ``size`` is that of the images, (height, width); ``valid_mask`` (height, width) is where both cameras see, so that
    its border is no edge. After every ``window`` pairs used ``shift_px`` is how far the ir image lies right of and
    below the rgb image, (dx, dy), or None where it is not significant; ``z_score`` is its significance.
    """

    def __init__(
        self,
        size: Size,
        valid_mask: NDArray[np.bool_] | None = None,
        limit_px: float = 4.0,
        every: int = 10,
        window: int = 20,
    ) -> None:
        if min(size) < 32 or every < 1 or window < 1 or not limit_px > 0:
            raise EdgemtlError(f"cannot compare images of {size}, every {every}, window {window}, limit {limit_px} px")
        self.size, self.limit_px, self.every, self.window = size, limit_px, every, window
        self.scale = min(1.0, WORK_SIDE_PX / max(size))
        self.work: Size = round(size[0] * self.scale), round(size[1] * self.scale)
        self.weight = _weight(self.work, valid_mask, size)
        self.power = np.zeros((*self.work, 2), np.float32)
        self.num_fed = self.num_added = 0
        self.shift_px: tuple[float, float] | None = None
        self.z_score = 0.0
        self.num_exceeded = 0

    def feed(self, rgb: NDArray[Any], ir: NDArray[Any]) -> None:
        """Take a pair: ``rgb`` and the registered ``ir``, (H, W) or (H, W, C) uint8 of the same size."""
        self.num_fed += 1
        if (self.num_fed - 1) % self.every:
            return
        cv2 = opencv()
        spectra = [self._spectrum(image) for image in (ir, rgb)]
        cross = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
        self.power += cross / (np.sqrt((cross**2).sum(2, keepdims=True)) + 1e-9)
        self.num_added += 1
        if self.num_added == self.window:
            self._conclude()

    def _spectrum(self, image: NDArray[Any]) -> NDArray[np.float32]:
        cv2 = opencv()
        if image.shape[:2] != self.size:
            raise ValueError(f"comparing images of {self.size}, got {image.shape[:2]}")
        small: NDArray[Any] = cv2.resize(image, self.work[::-1], interpolation=cv2.INTER_AREA)
        grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        x, y = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        squares = x * x, y * y
        weight = self.weight / (squares[0] + squares[1] + FLOOR) ** 0.75
        field = cv2.merge([(squares[0] - squares[1]) * weight, 2 * x * y * weight])
        return np.asarray(cv2.dft(field), np.float32)

    def _conclude(self) -> None:
        shift, self.z_score, ratio = _peak(self.power)
        significant = self.z_score >= MIN_Z_SCORE and ratio >= MIN_PEAK_RATIO
        self.shift_px = (shift[0] / self.scale, shift[1] / self.scale) if significant else None
        self.num_exceeded = (
            self.num_exceeded + 1 if significant and math.hypot(*self.shift_px or (0, 0)) > self.limit_px else 0
        )
        self.power[:] = 0
        self.num_added = 0

    def warning(self) -> str | None:
        """Return a warning when two windows in a row had a significant shift above the limit, None otherwise."""
        if self.shift_px is None or self.num_exceeded < 2:
            return None
        dx, dy = self.shift_px
        return (
            f"the thermal image lies {abs(dx):.0f} px {'right' if dx > 0 else 'left'} and {abs(dy):.0f} px "
            f"{'below' if dy > 0 else 'above'} of where the rig puts it; calibrate again, or give --distance"
        )


def _weight(work: Size, valid_mask: NDArray[np.bool_] | None, size: Size) -> NDArray[np.float32]:
    """Return the weight of each pixel: a Hann window over the valid area, 0 at its border."""
    cv2 = opencv()
    mask = np.ones(size, np.uint8) if valid_mask is None else np.asarray(valid_mask, np.uint8)
    if mask.shape != size or not mask.any():
        raise EdgemtlError("the cameras see nothing in common; check the rig file")
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    small = cv2.resize(mask * 255, work[::-1], interpolation=cv2.INTER_AREA) == 255
    inner = cv2.erode(small.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(np.float32)
    window = np.zeros(work, np.float32)
    top, bottom = (round(v * work[0] / size[0]) for v in (rows[0], rows[-1] + 1))
    left, right = (round(v * work[1] / size[1]) for v in (columns[0], columns[-1] + 1))
    window[top:bottom, left:right] = np.outer(np.hanning(bottom - top), np.hanning(right - left))
    return np.asarray(window * cv2.GaussianBlur(inner, (0, 0), 2.0) * inner, np.float32)


def _peak(power: NDArray[np.float32]) -> tuple[tuple[float, float], float, float]:
    """Return the shift (dx, dy) of a summed spectrum, its z-score, and its height over the second peak's.

    Shifts of up to an eighth of the longer side are searched; the peak is interpolated by a parabola.
    """
    cv2 = opencv()
    height, width = power.shape[:2]
    surface = np.fft.fftshift(cv2.dft(power, flags=cv2.DFT_INVERSE)[:, :, 0])
    max_shift = min(max(height, width) // 8, height // 2 - 2, width // 2 - 2)
    cy, cx = height // 2, width // 2
    near = cv2.GaussianBlur(surface, (0, 0), 1.0)[
        cy - max_shift : cy + max_shift + 1, cx - max_shift : cx + max_shift + 1
    ]
    y, x = (int(v) for v in np.unravel_index(int(near[1:-1, 1:-1].argmax()), (2 * max_shift - 1, 2 * max_shift - 1)))
    y, x = y + 1, x + 1
    rows, columns = np.ogrid[: len(near), : len(near)]
    rest = near[(np.abs(rows - y) > 3) | (np.abs(columns - x) > 3)]
    peak, deviation = float(near[y, x] - rest.mean()), float(rest.std())
    if not deviation > 0 or not peak > 0:
        return (0.0, 0.0), 0.0, 0.0
    dx, dy = _vertex(near[y, x - 1 : x + 2]), _vertex(near[y - 1 : y + 2, x])
    second = max(float(rest.max() - rest.mean()), 1e-9 * peak)
    return (x - max_shift + dx, y - max_shift + dy), peak / deviation, peak / second


def _vertex(values: NDArray[Any]) -> float:
    """Return the vertex of a parabola through three values, in steps from the middle one."""
    before, middle, after = (float(v) for v in values)
    curve = 2 * middle - before - after
    return max(-0.5, min(0.5, (after - before) / 2 / curve)) if curve > 0 else 0.0
