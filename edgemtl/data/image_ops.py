"""Photometric augmentation: brightness, contrast, saturation and hue as one affine map of the colours."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])
"""Luma of red, green and blue (ITU-R BT.601)."""
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""Luma and the two axes of chrominance (NTSC), about which the hue turns."""


def adjust_colour(
    image: Tensor, brightness: float, contrast: float, saturation: float = 1.0, hue: float = 0.0
) -> Tensor:
    """Return (C, H, W) uint8 with its brightness, contrast and saturation multiplied, its hue shifted by turns.

    Contrast is about the mean grey level. Saturation and hue are of colour images alone.
    """
    layers = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    channels = layers.shape[2]
    if channels == 3:
        c, s = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
        hue_shift = np.linalg.inv(YIQ) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ YIQ
        colours = (saturation * np.eye(3) + (1 - saturation) * LUMA) @ hue_shift * brightness
        grey = float(LUMA @ colours @ np.array(cv2.mean(layers)[:3]))
    else:
        colours = np.eye(channels) * brightness
        grey = brightness * float(layers.mean())
    offset = np.full((channels, 1), (1 - contrast) * grey)
    out = cv2.transform(layers, np.hstack([contrast * colours, offset]))
    return torch.from_numpy(np.ascontiguousarray(out.reshape(layers.shape).transpose(2, 0, 1)))
