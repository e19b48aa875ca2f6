"""Maps that stay in the network's pixels until somebody reads them in the camera's: enlarging costs more than decoding.

Shares, means and percentiles over the camera's pixels are counted without it: each pixel of the network counts as often
as it would be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .letterbox import Letterbox, nearest_indices
from .result_record import Recorded

TYPE_CHECKING = False


class NetworkMap:
    """A map of the network, (height, width[, C]), of which ``values`` are those within the letterbox's image."""

    def __init__(self, output: NDArray[Any], letterbox: Letterbox) -> None:
        self.values = output[: letterbox.scaled_height, : letterbox.scaled_width]
        self.letterbox = letterbox
        self.dtype, self.ndim = output.dtype, output.ndim
        self.shape = (letterbox.camera_height, letterbox.camera_width, *output.shape[2:])

    def in_camera(self) -> NDArray[Any]:
        """Return it in the camera's pixels."""
        return self.letterbox.map_to_camera(self.values)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many of the camera's pixels show each of its own, (height, width)."""
        height, width = self.values.shape[:2]
        return _counts(height, width, self.letterbox.camera_height, self.letterbox.camera_width)


@lru_cache(maxsize=16)
def _counts(height: int, width: int, camera_height: int, camera_width: int) -> NDArray[np.int64]:
    rows = np.bincount(nearest_indices(height, camera_height), minlength=height)
    columns = np.bincount(nearest_indices(width, camera_width), minlength=width)
    return np.outer(rows, columns)


def later(output: NDArray[Any], letterbox: Letterbox) -> Any:
    """Return what a `MapResult` takes in place of an array in the camera's pixels."""
    return NetworkMap(output, letterbox)


class MapResult(Recorded):
    """Base of results of a number or more a pixel, in the field ``MAP``; see `later`."""

    MAP: ClassVar[str]

    def _keep_map(self) -> NDArray[Any] | NetworkMap:
        """Put a map of the network aside, to be enlarged when it is read; returns it, or the array."""
        given: NDArray[Any] | NetworkMap = getattr(self, self.MAP)
        if isinstance(given, NetworkMap):
            object.__setattr__(self, "_map", given)
            object.__delattr__(self, self.MAP)
        return given

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            kept = self.__dict__.get("_map")
            if kept is None or name != self.MAP:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            enlarged = kept.in_camera()
            object.__setattr__(self, name, enlarged)
            return enlarged

    def _counted(self) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return values a pixel, and how often each counts (height, width); None: once."""
        array = self.__dict__.get(self.MAP)  # once it was read it may have been changed
        if array is None:
            kept = self.__dict__["_map"]
            return kept.values, kept.counts
        return array, None


def percentiles(values: NDArray[Any], counts: NDArray[np.int64] | None, percents: Sequence[float]) -> list[float]:
    """Return percentiles of (N,) values, each as often as its count, interpolated linearly; of at least one value."""
    if counts is None:
        known: list[float] = np.percentile(values.astype(np.float64), percents).tolist()
        return known
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(counts[order])
    ranks = np.asarray(percents) / 100 * (ends[-1] - 1)
    low, high = (
        values[order[np.searchsorted(ends, rank, side="right")]].astype(np.float64)
        for rank in (np.floor(ranks), np.ceil(ranks))
    )
    between: list[float] = (low + (high - low) * (ranks - np.floor(ranks))).tolist()
    return between
