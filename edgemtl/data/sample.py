"""One labelled moment: the images of the cameras and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""The semantic id of pixels without a label."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of one size by modality, and their labels.

    ``images``: "rgb" (H, W, 3) uint8, "ir" (H, W) uint8 or uint16. ``xyxy`` (N, 4) float32 pixels, ``classes`` (N,).
    ``semantic`` (H, W) uint8 ids, `IGNORE` where unknown, or None. ``is_day`` is None where it is not known.
    """

    images: dict[str, NDArray[Any]]
    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    semantic: NDArray[np.uint8] | None = None
    is_day: bool | None = None
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        first = next(iter(self.images.values()))
        return first.shape[0], first.shape[1]


class Samples(Protocol):
    """A split of a data set: ``classes`` of its boxes, ``semantic_classes`` (empty without segmentation labels)."""

    classes: tuple[str, ...]
    semantic_classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def label_classes(samples: Samples) -> dict[str, tuple[str, ...]]:
    """Return the classes of each task that these samples are labelled for."""
    known = {"boxes": samples.classes, "semantic": samples.semantic_classes}
    return {task: classes for task, classes in known.items() if classes}
