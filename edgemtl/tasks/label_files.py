"""How a task's labels lie in a folder: one file an image, ``TASK/SPLIT/STEM.png``, or a file of another type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Classes = tuple[str, ...]
MAP_SUFFIXES = (".png", ".tif", ".tiff")
"""Types of label maps, all lossless."""


@dataclass(frozen=True)
class LabelFiles:
    """The files of a task's labels; both functions raise `ValueError` with what is wrong.

    ``decode(pixels, classes)`` is for maps: images of any of `MAP_SUFFIXES` as (H, W) or (H, W, 3) RGB, of the size of
    the camera's image. An image with a palette gives its indices, or with ``as_shown`` the colours that viewers show.
    ``read(file, classes, size)`` is for any other file with the ``suffix``; ``size`` is (height, width) of the image.
    Both return what `Task.as_result` and `Task.target_type` take.
    """

    decode: Callable[[NDArray[Any], Classes], Any] | None = None
    read: Callable[[Path, Classes, tuple[int, int]], Any] | None = None
    suffix: str = ".png"
    as_shown: bool = False

    def __post_init__(self) -> None:
        if (self.decode is None) == (self.read is None):
            raise ValueError("give decode, for maps in images, or read, for other files")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The types of files, in lower case, the one that is written first."""
        suffix = self.suffix.lower()
        return (suffix,) if self.decode is None else tuple(dict.fromkeys((suffix, *MAP_SUFFIXES)))
