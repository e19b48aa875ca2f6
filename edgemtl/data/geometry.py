"""Geometric transforms of augmentation, with one pixel convention for images, label maps and boxes.

Pixel (i, j) of an array covers the square [j, j + 1) × [i, i + 1): box coordinates are positions in this plane, and
centres of pixels lie at whole numbers plus a half. OpenCV counts from the centre of the first pixel; `Affine` alone
knows of that half pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

Matrix = NDArray[np.float64]
PIXEL_CENTRE = 0.5


class Geometry(Protocol):
    """A map of one image plane onto another: of pixels, of boxes, and of values that depend on the view."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the plane that is mapped to."""

    @property
    def zoom(self) -> float:
        """The magnification: what is enlarged twofold looks half as far away."""

    @property
    def rotation_deg(self) -> float:
        """The clockwise rotation."""

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right change sides."""

    def resample(self, values: Tensor, fill: float, interpolate: bool) -> Tensor:
        """Return pixels (H, W) or (C, H, W) moved; ``fill`` where none are mapped to; else each the nearest one's."""

    def boxes(self, xyxy: Tensor) -> Tensor:
        """Return the upright boxes (N, 4) around moved ones; they may reach out of the image."""


@dataclass(frozen=True)
class Affine:
    """Rotation (clockwise) and zoom about the middle of an image of (height, width), then a shift (right, down)."""

    size: tuple[int, int]
    rotation_deg: float = 0.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    is_mirrored = False

    def matrix(self) -> Matrix:
        """Return the (2, 3) matrix between pixel indices, which are positions less `PIXEL_CENTRE`."""
        angle = math.radians(self.rotation_deg)
        c, s = self.zoom * math.cos(angle), self.zoom * math.sin(angle)
        x, y = (self.size[1] - 1) / 2, (self.size[0] - 1) / 2
        right, down = self.shift_px
        return np.array([[c, -s, x - c * x + s * y + right], [s, c, y - s * x - c * y + down]])

    def resample(self, values: Tensor, fill: float, interpolate: bool) -> Tensor:
        """Return pixels moved by one pass of OpenCV, bilinear or the nearest."""
        array = values.numpy()
        layers = np.ascontiguousarray(array.transpose(1, 2, 0)) if array.ndim == 3 else array
        interpolation = cv2.INTER_LINEAR if interpolate else cv2.INTER_NEAREST
        height, width = layers.shape[:2]
        out = cv2.warpAffine(layers, self.matrix(), (width, height), flags=interpolation, borderValue=(fill,) * 4)
        if array.ndim == 3:
            out = np.ascontiguousarray(out.reshape(height, width, -1).transpose(2, 0, 1))
        return torch.from_numpy(out)

    def boxes(self, xyxy: Tensor) -> Tensor:
        """Return the upright hulls of the moved rectangles."""
        x0, y0, x1, y1 = (xyxy.double() - PIXEL_CENTRE).unbind(1)
        corners = torch.stack([torch.stack([x, y, torch.ones_like(x)]) for x in (x0, x1) for y in (y0, y1)])
        moved = torch.from_numpy(self.matrix()) @ corners + PIXEL_CENTRE
        return torch.cat([moved.amin(0), moved.amax(0)]).T.to(xyxy.dtype)


@dataclass(frozen=True)
class ResizedCrop:
    """The window of ``crop_size`` at (``top``, ``left``), scaled to ``size``; sizes are (height, width)."""

    top: int
    left: int
    crop_size: tuple[int, int]
    size: tuple[int, int]
    rotation_deg = 0.0
    is_mirrored = False

    @property
    def zoom(self) -> float:
        """The magnification down the image."""
        return self.size[0] / self.crop_size[0]

    def resample(self, values: Tensor, fill: float, interpolate: bool) -> Tensor:
        """Return the window's pixels, antialiased or the nearest; it lies inside, so nothing has to be filled."""
        window, size = (self.top, self.left, *self.crop_size), list(self.size)
        if interpolate:
            resampled: Tensor = v2.functional.resized_crop_image(values, *window, size, antialias=True)
        else:
            resampled = v2.functional.resized_crop_mask(values, *window, size)
        return resampled

    def boxes(self, xyxy: Tensor) -> Tensor:
        """Return boxes in the pixels of the scaled window."""
        down, across = (out / cut for out, cut in zip(self.size, self.crop_size, strict=True))
        inside = xyxy - torch.tensor([self.left, self.top, self.left, self.top], dtype=xyxy.dtype)
        return inside.mul(torch.tensor([across, down, across, down])).to(xyxy.dtype)


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right of an image of (height, width) exchanged."""

    size: tuple[int, int]
    zoom = 1.0
    rotation_deg = 0.0
    is_mirrored = True

    def resample(self, values: Tensor, fill: float, interpolate: bool) -> Tensor:
        """Return the pixels in reverse order from left to right."""
        return values.flip(-1)

    def boxes(self, xyxy: Tensor) -> Tensor:
        """Return mirrored boxes."""
        x0, y0, x1, y1 = xyxy.unbind(1)
        return torch.stack([self.size[1] - x1, y0, self.size[1] - x0, y1], 1)
