"""Cameras of unequal view brought onto the pixels of the first, by the registration that the runtime uses live."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.rig import CameraModel, Rig
from edgemtl_runtime.rig.register import Registration

from .label_size import Size

Array = NDArray[Any]
BLANK = 114
"""The value of 8-bit pixels that the second camera does not see: that of the network's letterbox."""
CACHED = 8


@dataclass(frozen=True, eq=False)
class Registered:
    """Registers a second camera's images onto the first one's.

    By a ``rig``; or by ``ir_to_rgb`` (3, 3), a homography of the second camera's pixels onto the first one's, pixel
    centres at whole numbers; or, with neither, by scaling to the first one's size.
    """

    rig: Rig | None = None
    ir_to_rgb: NDArray[np.float64] | None = None

    def __call__(self, image: Array, size: Size) -> Array:
        """Return an image (H, W) or (H, W, 3) in the pixels of the first camera's image of ``size``.

        What is not seen has the value 114, or with 16 bits the image's median, which leaves its range as it is.
        Raises `EdgemtlError` where the images have another shape than the rig's.
        """
        own_size = (image.shape[0], image.shape[1])
        if self.rig is None and self.ir_to_rgb is None:
            if own_size == size:
                return image
            is_smaller = own_size[0] * own_size[1] > size[0] * size[1]
            resized: Array = cv2.resize(
                image, size[::-1], None, 0, 0, cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
            )
            return resized
        blank = BLANK if image.dtype == np.uint8 else int(np.median(image))
        return _planned(self, size, own_size).registered(image, blank)


@lru_cache(maxsize=CACHED)
def _planned(registered: Registered, size: Size, own_size: Size) -> Registration:
    rig = registered.rig
    if rig is None:
        assert registered.ir_to_rgb is not None
        cameras = {name: _uncalibrated(name, size_) for name, size_ in (("rgb", size), ("ir", own_size))}
        rig = Rig(cameras, homography_rgb_to_ir=np.asarray(np.linalg.inv(registered.ir_to_rgb), np.float64))
    return Registration(rig, size, own_size)


def _uncalibrated(name: str, size: Size) -> CameraModel:
    height, width = size
    return CameraModel(name, width, height)
