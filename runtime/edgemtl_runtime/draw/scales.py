"""Scales: what the colours of a drawn map, a thermal image or a label map mean, with units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..result import DepthMap, EdgeMap, HeadResult, NormalMap, ScalarMap, VectorMap

Range = tuple[float, float]
"""The lowest and the highest value that have a colour of their own."""
NICE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Leading digits of the ends of a range; so it hardly changes from image to image."""
BAR_STEPS = 64
UNKNOWN_EDGE = 0.3
"""The score with which pixels are drawn of which no label says whether they are an edge."""
NORMAL_DIRECTIONS = {
    "right": (1, 0, 0),
    "left": (-1, 0, 0),
    "up": (0, -1, 0),
    "down": (0, 1, 0),
    "to the camera": (0, 0, -1),
}
"""Unit normals (x right, y down, z forward) that the key of a normal map names."""


@dataclass(frozen=True)
class ColourBar:
    """A colour bar: RGB ``colours`` from one end to the other, and ``ticks``: (position in [0, 1], text with unit)."""

    colours: tuple[tuple[int, int, int], ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class ColourKey:
    """A key: ``entries`` as (name, RGB colour)."""

    entries: tuple[tuple[str, tuple[int, int, int]], ...]


Scale = ColourBar | ColourKey


def depth_range(head: DepthMap) -> Range:
    """Return the range of a depth map's colours: its 2nd and 98th percentile, outwards to numbers of one or two digits.

    Of a relative depth it is in multiples of the image's median.
    """
    values = _sparse(_values(head))
    known = values[(values > 0) & np.isfinite(values)]
    if not known.size:
        return 1.0, 10.0
    low, high = (float(v) for v in np.percentile(known, (2, 98)))
    low, high = _nice(low, upwards=False), _nice(high, upwards=True)
    return (low, high) if low < high else (low / 2, high * 2)


def depth_image(head: DepthMap, limits: Range) -> NDArray[np.uint8]:
    """Return a depth map as an RGB image, logarithmic: warm colours are near, pixels without a value black."""
    values = _values(head)
    known = (values > 0) & np.isfinite(values)
    near = np.log(limits[1] / np.where(known, values, limits[1])) / math.log(limits[1] / limits[0])
    return np.asarray(_turbo(near) * known[:, :, None], np.uint8)


def scale_of(head: HeadResult, limits: Range | None = None, scores: bool = True) -> Scale | None:
    """Return the scale of a head that is drawn as a map; None for other heads.

    ``limits`` are those of a depth. Edges without ``scores`` are labels.
    """
    if isinstance(head, DepthMap):
        return _depth_bar(limits or depth_range(head), head.relative)
    if isinstance(head, NormalMap):
        return ColourKey(tuple((name, _normal_colour(normal)) for name, normal in NORMAL_DIRECTIONS.items()))
    if isinstance(head, EdgeMap) and not scores:
        return ColourKey((("edge", (255,) * 3), ("unknown", (round(255 * UNKNOWN_EDGE),) * 3), ("none", (0,) * 3)))
    if isinstance(head, EdgeMap):
        greys = tuple((v, v, v) for v in range(0, 256, 15))
        return ColourBar(greys, ((0.0, "0"), (head.threshold, f"edge from {head.threshold:.2g}"), (1.0, "score 1")))
    if isinstance(head, ScalarMap | VectorMap):
        return _number_bar(number_range(head), head.units)
    return None


def number_range(head: ScalarMap | VectorMap) -> Range:
    """Return the numbers at the ends of a map's colours: those of the head, else its 2nd and 98th percentile."""
    if head.value_range is not None:
        return head.value_range
    numbers = _sparse(numbers_of(head))
    known = numbers[np.isfinite(numbers)]
    low, high = (float(v) for v in np.percentile(known, (2, 98))) if known.size else (0.0, 1.0)
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def number_image(head: ScalarMap | VectorMap) -> NDArray[np.uint8]:
    """Return numbers, or the lengths of vectors, as an RGB image: warm colours are high, what is not known black."""
    numbers, (low, high) = numbers_of(head), number_range(head)
    known = np.isfinite(numbers)
    return np.asarray(_turbo((np.where(known, numbers, low) - low) / (high - low)) * known[:, :, None], np.uint8)


def numbers_of(head: ScalarMap | VectorMap) -> NDArray[np.float32]:
    """Return what the colours of a map show, (H, W): its numbers, or the lengths of its vectors."""
    return head.values if isinstance(head, ScalarMap) else np.linalg.norm(head.vectors, axis=2)


def _number_bar(limits: Range, units: str) -> ColourBar:
    low, high = limits
    colours = _turbo(np.linspace(0, 1, BAR_STEPS)[None])[0]
    ticks = ((0.0, f"{low:.3g}"), (0.5, f"{(low + high) / 2:.3g}"), (1.0, f"{high:.3g} {units}".strip()))
    return ColourBar(_tuples(colours), ticks)


def thermal_range(image: NDArray[np.uint16]) -> Range:
    """Return the counts that are drawn black and white: the 1st and 99th percentile, of some 65,000 pixels."""
    low, high = (float(v) for v in np.percentile(_sparse(image), (1, 99)))
    return low, max(high, low + 1)


def thermal_bar(limits: Range, unit: str) -> ColourBar:
    """Return the grey scale of a thermal image whose black and white are ``limits`` in ``unit``."""
    low, high = limits
    middle = (low + high) / 2
    greys = tuple((v, v, v) for v in range(0, 256, 15))
    return ColourBar(greys, ((0.0, f"{low:.0f}"), (0.5, f"{middle:.0f}"), (1.0, f"{high:.0f} {unit}")))


def _sparse(image: NDArray[Any]) -> NDArray[Any]:
    """Return every k-th row and column, so that some 65,000 pixels are left: percentiles of all take longer."""
    step = max(1, math.isqrt(image.size // 65_536))
    return image[::step, ::step]


def _values(head: DepthMap) -> NDArray[np.float32]:
    """Return depths in metres; relative ones in multiples of the image's median."""
    if not head.relative:
        return head.depth_m
    depth = _sparse(head.depth_m)
    known = depth[(depth > 0) & np.isfinite(depth)]
    return np.asarray(head.depth_m / max(float(np.median(known)), 1e-12) if known.size else head.depth_m, np.float32)


def _depth_bar(limits: Range, relative: bool) -> ColourBar:
    low, high = limits
    colours = _turbo(np.linspace(1, 0, BAR_STEPS)[None])[0]
    unit = "× median" if relative else "m"
    ticks = [low, *_ticks_within(low, high), high]
    positions = [math.log(tick / low) / math.log(high / low) for tick in ticks]
    return ColourBar(_tuples(colours), tuple((p, f"{t:.3g} {unit}") for p, t in zip(positions, ticks, strict=True)))


def _ticks_within(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times powers of ten between two values, but none next to an end."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    apart = (high / low) ** 0.15
    return [value for value in values if low * apart < value < high / apart]


def _nice(value: float, *, upwards: bool) -> float:
    """Return the next number with a leading digit of `NICE`, up or down."""
    power = 10.0 ** math.floor(math.log10(value))
    lead = value / power
    if upwards:
        return power * next((n for n in NICE if n >= lead * (1 - 1e-9)), 10.0)
    return power * next((n for n in reversed(NICE) if n <= lead * (1 + 1e-9)), 1.0)


def _turbo(near: NDArray[Any]) -> NDArray[np.uint8]:
    """Return Google's Turbo colours (Mikhailov 2019) of values (H, W) in [0, 1], RGB."""
    grey = (255 * np.clip(near, 0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO)[:, :, ::-1], np.uint8)


def _normal_colour(normal: Sequence[int]) -> tuple[int, int, int]:
    pixel = normal_image(np.array(normal, np.float32)[None, None])
    return _tuples(pixel[0])[0]


def normal_image(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return normals (H, W, 3) as an RGB image: red is right, green up, blue towards the camera; zero is black."""
    image = (127.5 + 127.5 * normals * np.array([1, -1, -1], np.float32)).astype(np.uint8)
    image[(normals[:, :, 0] == 0) & (normals[:, :, 1] == 0) & (normals[:, :, 2] == 0)] = 0
    return image


def _tuples(colours: NDArray[np.uint8]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in colours.tolist())
