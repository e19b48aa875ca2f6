"""What augmentation does to pixels, by OpenCV: one pass for the geometry of a picture or a map, one for its light."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]
GREY = np.array([0.299, 0.587, 0.114])
"""Luma of red, green and blue (ITU-R BT.601)."""
YIQ = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""Luma and the two axes of colour (NTSC), about which the hue turns."""


def affine(size: tuple[int, int], degrees: float, shift_px: tuple[float, float], scale: float) -> Matrix:
    """Return the (2, 3) matrix that turns clockwise and scales about the middle of (height, width), then shifts."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.array([[c, -s, x - c * x + s * y + shift_px[0]], [s, c, y - s * x - c * y + shift_px[1]]])


def warped(value: Tensor, matrix: Matrix, fill: float, smooth: bool) -> Tensor:
    """Return pixels (C, H, W), or (H, W), moved by a matrix; ``fill`` where nothing comes from.

    Interpolated if ``smooth``, else each the nearest.
    """
    source = value.numpy()
    layers = np.ascontiguousarray(source.transpose(1, 2, 0)) if source.ndim == 3 else source
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    height, width = layers.shape[:2]
    out = cv2.warpAffine(layers, matrix, (width, height), flags=how, borderValue=(fill,) * 4)
    if source.ndim == 3:
        out = np.ascontiguousarray(out.reshape(height, width, -1).transpose(2, 0, 1))
    return torch.from_numpy(out)


def relit(image: Tensor, brightness: float, contrast: float, saturation: float = 1.0, hue: float = 0.0) -> Tensor:
    """Return (C, H, W) uint8 in another light: factors of brightness, contrast and saturation, hue in turns.

    Contrast is about the mean grey. All of it is one affine map of the colours.
    """
    layers = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    channels = layers.shape[2]
    if channels == 3:
        c, s = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
        turned = np.linalg.inv(YIQ) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ YIQ
        colours = (saturation * np.eye(3) + (1 - saturation) * GREY) @ turned * brightness
        grey = float(GREY @ colours @ np.array(cv2.mean(layers)[:3]))
    else:
        colours = np.eye(channels) * brightness
        grey = brightness * float(layers.mean())
    offset = np.full((channels, 1), (1 - contrast) * grey)
    out = cv2.transform(layers, np.hstack([contrast * colours, offset]))
    return torch.from_numpy(np.ascontiguousarray(out.reshape(layers.shape).transpose(2, 0, 1)))
