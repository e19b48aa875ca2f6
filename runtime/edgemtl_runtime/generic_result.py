"""Results that a manifest describes in full: numbers a pixel or an image, points, raw tensors, with their units.

A head of a task that this runtime has never heard of has one of these: the robot needs no code for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .network_map import MapResult, NetworkMap, percentiles
from .result_record import (
    PercentilesRecord,
    PointRecord,
    PointsRecord,
    Recorded,
    ScalarMapRecord,
    ScalarsRecord,
    TensorRecord,
    VectorMapRecord,
)

DIGITS = 4
"""Decimals of numbers in records."""


@dataclass(frozen=True, eq=False)
class ScalarMap(MapResult):
    """A number a pixel: ``values`` (H, W) float32 in ``units``, NaN where not known.

    ``value_range`` are the values at the ends of the colour scale; None: each image's 2nd and 98th percentile.
    """

    MAP: ClassVar[str] = "values"
    values: NDArray[np.float32]
    units: str = ""
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_shape("a scalar map", self._keep_map(), "(H, W)", 2)

    def record(self) -> ScalarMapRecord:
        """Return the image's 5th, 50th and 95th percentile, for JSON; None where no pixel has a value."""
        values, counts = self._counted()
        known = np.isfinite(values) if counts is None else np.isfinite(values) & (counts > 0)
        weights = None if counts is None else counts[known]
        ends = percentiles(values[known], weights, (5, 50, 95)) if known.any() else [None] * 3
        return ScalarMapRecord(PercentilesRecord(*map(_rounded, ends)), self.units)


@dataclass(frozen=True, eq=False)
class VectorMap(MapResult):
    """A vector a pixel: ``vectors`` (H, W, C) float32 in ``units``, a component a name, NaN where not known."""

    MAP: ClassVar[str] = "vectors"
    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    units: str = ""
    value_range: tuple[float, float] | None = None
    """The lengths at the ends of the colour scale; None: each image's 2nd and 98th percentile."""

    def __post_init__(self) -> None:
        _check_shape("a vector map", self._keep_map(), f"(H, W, {len(self.names)})", 3, len(self.names))

    def record(self) -> VectorMapRecord:
        """Return the mean of every component over the pixels that are known, for JSON."""
        vectors, counts = self._counted()
        known = np.isfinite(vectors).all(2)
        if counts is not None:
            known &= counts > 0
        means = [None] * len(self.names)
        if known.any():
            weights = None if counts is None else counts[known]
            means = np.average(vectors[known].astype(np.float64), 0, weights).tolist()
        return VectorMapRecord(dict(zip(self.names, map(_rounded, means), strict=True)), self.units)


@dataclass(frozen=True, eq=False)
class Points(Recorded):
    """Points, best first: ``xy`` (N, 2) float32 camera pixels, ``scores`` (N,) in [0, 1], ``classes`` (N,) ids."""

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.xy)
        if self.xy.shape != (n, 2) or self.scores.shape != (n,) or self.classes.shape != (n,):
            raise ValueError(f"points disagree: {self.xy.shape}, {self.scores.shape}, {self.classes.shape}")
        if n and not 0 <= self.classes.min() <= self.classes.max() < len(self.names):
            raise ValueError(f"a class id outside 0..{len(self.names) - 1}")

    def __len__(self) -> int:
        return len(self.xy)

    def record(self) -> PointsRecord:
        """Return the points for JSON."""
        rows = zip(self.xy.tolist(), self.scores.tolist(), self.classes.tolist(), strict=True)
        return PointsRecord(
            [
                PointRecord([round(value, 2) for value in xy], round(score, DIGITS), self.names[index])
                for xy, score, index in rows
            ]
        )


@dataclass(frozen=True, eq=False)
class Scalars(Recorded):
    """Numbers of the image as a whole: ``values`` (N,) float32 in ``units``, one a name, NaN where not known."""

    values: NDArray[np.float32]
    names: tuple[str, ...]
    units: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names),):
            raise ValueError(f"{len(self.names)} names, but numbers are {self.values.shape}")

    def record(self) -> ScalarsRecord:
        """Return the numbers by name, for JSON; None where not known."""
        return ScalarsRecord(dict(zip(self.names, map(_rounded, self.values.tolist()), strict=True)), self.units)


@dataclass(frozen=True, eq=False)
class Tensor(Recorded):
    """A raw output: ``values`` of any shape and type, in the network's pixels, for a program that reads them itself."""

    values: NDArray[np.number]
    units: str = ""

    def record(self) -> TensorRecord:
        """Return shape and range, for JSON."""
        numbers = self.values[np.isfinite(self.values)]
        low, high = (_rounded(float(numbers.min())), _rounded(float(numbers.max()))) if numbers.size else (None, None)
        return TensorRecord(list(self.values.shape), low, high, self.units)


GenericResult = ScalarMap | VectorMap | Points | Scalars | Tensor


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, DIGITS)


def _check_shape(
    what: str, values: NDArray[np.float32] | NetworkMap, shape: str, ndim: int, last: int | None = None
) -> None:
    if values.ndim != ndim or values.dtype != np.float32 or (last is not None and values.shape[-1] != last):
        raise ValueError(f"{what} is {shape} float32, not {values.dtype} {values.shape}")
