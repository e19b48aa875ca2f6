"""One labelled moment: the images of the cameras and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""The id of pixels without a label, in maps of classes and of edges."""


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """The objects of a picture: ``xyxy`` (N, 4) float32 pixels, ``classes`` (N,) ids; N may be 0."""

    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of one size by modality, and their labels by task; a task that is not there has no label here.

    ``images``: "rgb" (H, W, 3) uint8, "ir" (H, W) uint8 or uint16. ``labels``: "boxes" `BoxLabels`; "semantic" (H, W)
    uint8 ids and "edges" (H, W) uint8 0 or 1, both `IGNORE` where unknown; "depth" (H, W) float32 metres, 0 where
    unknown; "normals" (H, W, 3) float32 unit vectors (x right, y down, z forward), zero where unknown; "attributes"
    (A,) float32 0 or 1, NaN where unknown. ``is_day`` is None where it is not known.
    """

    images: dict[str, NDArray[Any]]
    labels: dict[str, Any]
    is_day: bool | None = None
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        first = next(iter(self.images.values()))
        return first.shape[0], first.shape[1]


class Dataset(Protocol):
    """A split of a dataset; ``classes`` has every task that it labels, with its classes (none for a depth)."""

    classes: dict[str, tuple[str, ...]]
    modalities: tuple[str, ...]
    """What every sample has pictures of."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def is_day(self, index: int) -> bool | None:
        """Whether a sample was taken by day, as far as it is known without reading it."""
