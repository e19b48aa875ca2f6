"""One labelled sample, its labels, and what a dataset of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""The id of pixels without a label, in maps of classes and of edges."""


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """The objects of an image: ``xyxy`` (N, 4) float32 pixels, ``classes`` (N,) ids; N may be 0."""

    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]


Label = BoxLabels | NDArray[Any]


class Labels(TypedDict, total=False):
    """The labels of a sample by task; a task that is missing is not labelled."""

    boxes: BoxLabels
    semantic: NDArray[np.uint8]
    """(H, W) class ids, `IGNORE` where not known."""
    depth: NDArray[np.float32]
    """(H, W) metres, 0 where not known."""
    normals: NDArray[np.float32]
    """(H, W, 3) unit vectors (x right, y down, z forward), zero where not known."""
    edges: NDArray[np.uint8]
    """(H, W) 0 or 1, `IGNORE` where not known."""
    attributes: NDArray[np.float32]
    """(A,) 0 or 1, NaN where not known."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of one size by modality, "rgb" (H, W, 3) uint8 and "ir" (H, W) uint8 or uint16, and their labels.

    ``is_day`` is None where it is not known.
    """

    images: dict[str, NDArray[Any]]
    labels: Labels
    is_day: bool | None = None
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        first = next(iter(self.images.values()))
        return first.shape[0], first.shape[1]

    def label(self, task: str) -> Label:
        """Return the label of a task; raises KeyError where there is none."""
        return cast(dict[str, Label], self.labels)[task]


class Dataset(Protocol):
    """One split of samples; ``classes`` has every task that it labels, with its classes (none for a depth)."""

    classes: dict[str, tuple[str, ...]]
    modalities: tuple[str, ...]
    """What every sample has images of."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day, as far as it is known without reading it."""
