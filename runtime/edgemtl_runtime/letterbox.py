"""Letterbox: camera image to network input, and results back to camera pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import ThermalRange
from .errors import EdgemtlError, missing
from .pixels import luma


def to_uint8(image: NDArray[Any], thermal_range: ThermalRange) -> NDArray[np.uint8]:
    """Return a 16-bit thermal image scaled to the network's 8 bits; 8-bit images pass unchanged.

    Training and the runtime share it, so that the network's input on the robot is what it was trained on.
    """
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if thermal_range.kind == "radiometric":
        low, high = thermal_range.low, thermal_range.high
    else:
        low, high = (float(v) for v in np.percentile(image, (thermal_range.low, thermal_range.high)))
    scale = 255.0 / max(high - low, 1.0)
    scaled: NDArray[np.float32] = (image.astype(np.float32) - low) * scale + 0.5
    return scaled.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Letterbox:
    """Letterbox from one camera size to one network size: uniform scale, aligned top left, padding after it.

    A network pixel x is a camera pixel x / scale; heights and widths are pixels. Create it once a stream by `plan`.
    """

    camera_height: int
    camera_width: int
    height: int
    width: int
    scale: float
    scaled_height: int
    scaled_width: int

    @classmethod
    def plan(cls, camera_size: tuple[int, int], network_size: tuple[int, int]) -> Letterbox:
        """Plan the letterbox from ``camera_size`` to ``network_size``, both (height, width)."""
        (h, w), (height, width) = camera_size, network_size
        scale = min(height / h, width / w)
        return cls(
            h,
            w,
            height,
            width,
            scale,
            *(max(1, min(round(side * scale), most)) for side, most in ((h, height), (w, width))),
        )

    def image(self, image: NDArray[Any], channels: int, blank: int) -> NDArray[np.uint8]:
        """Return ``image`` (H, W[, 3]) uint8 as the network's (height, width, channels) uint8."""
        if image.shape[:2] != (self.camera_height, self.camera_width):
            raise ValueError(f"planned for {self.camera_height}x{self.camera_width}, got {image.shape[:2]}")
        image = with_channels(image, channels)
        if (self.scaled_height, self.scaled_width) != image.shape[:2]:
            image = _resize(image, self.scaled_height, self.scaled_width, smooth=True).reshape(
                self.scaled_height, self.scaled_width, channels
            )
        if image.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(image)
        out = np.full((self.height, self.width, channels), blank, np.uint8)
        out[: self.scaled_height, : self.scaled_width] = image
        return out

    def boxes_to_camera(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 4) network boxes in camera pixels, clipped to the camera's image."""
        limit = np.array([self.camera_width, self.camera_height] * 2, np.float32)
        return np.asarray(np.clip(xyxy / np.float32(self.scale), 0, limit), np.float32)

    def points_to_camera(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 2) network points in camera pixels, clipped to the camera's image."""
        limit = np.array([self.camera_width, self.camera_height], np.float32)
        return np.asarray(np.clip(xy / np.float32(self.scale), 0, limit), np.float32)

    def map_to_camera(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return a (height, width[, C]) network map as (camera_height, camera_width[, C]), nearest neighbour."""
        inside = labels[: self.scaled_height, : self.scaled_width]
        if inside.shape[:2] == (self.camera_height, self.camera_width):
            return np.ascontiguousarray(inside)
        return _resize(inside, self.camera_height, self.camera_width, smooth=False)


def with_channels(image: NDArray[Any], channels: int) -> NDArray[np.uint8]:
    """Return an image (H, W[, C]) uint8 as (H, W, channels): grey repeated, colour as its luma."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == channels:
        return np.asarray(image, np.uint8)
    if channels == 1:  # a grey camera that delivers colour
        return luma(image)[:, :, None]
    return np.asarray(np.repeat(image, channels, axis=2), np.uint8)


def _resize(image: NDArray[Any], height: int, width: int, *, smooth: bool) -> NDArray[Any]:
    if not smooth:
        return _nearest(image, height, width)
    try:
        import cv2
    except ImportError as error:
        size = f"{image.shape[1]}x{image.shape[0]}"
        hint = f"the camera's {size} must be resized: pip install 'edgemtl-runtime[opencv]'"
        raise EdgemtlError(missing(error, "cv2", hint)) from error
    shrink = height < image.shape[0]
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def _nearest(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return a map resized by the nearest pixel centre: pixel i of n shows pixel floor((i + 0.5) m / n) of m.

    OpenCV's INTER_NEAREST_EXACT takes the other pixel where two are equally near, so it is not used: with and without
    OpenCV a map is the same. Columns cost more than rows, so they are taken where there are fewer rows.
    """
    rows, columns = nearest_indices(image.shape[0], height), nearest_indices(image.shape[1], width)
    if height < image.shape[0]:
        return np.asarray(image.take(rows, axis=0).take(columns, axis=1))
    return np.asarray(image.take(columns, axis=1).take(rows, axis=0))


def nearest_indices(size: int, into: int) -> NDArray[np.intp]:
    """Return which of ``size`` pixels each of ``into`` pixels shows."""
    return np.minimum((np.arange(into) + 0.5) * size / into, size - 1).astype(np.intp)
