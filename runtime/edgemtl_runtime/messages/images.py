"""Pixels of ROS 2 image messages: raw ones in the encodings of `ENCODINGS`, and compressed ones that OpenCV decodes."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, missing
from .store import CompressedImage, Image, deserialize

ENCODINGS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "rgb8": (1, 3, (0, 1, 2)),
    "bgr8": (1, 3, (2, 1, 0)),
    "rgba8": (1, 4, (0, 1, 2)),
    "bgra8": (1, 4, (2, 1, 0)),
    "8UC3": (1, 3, (2, 1, 0)),  # names no colours; its writers are OpenCV programs, whose order is BGR
    "mono8": (1, 1, ()),
    "8UC1": (1, 1, ()),
    "mono16": (2, 1, ()),
    "16UC1": (2, 1, ()),
}
"""By name: bytes a sample, samples a pixel, and the channels of red, green and blue."""


def image_of(data: bytes, type_name: str) -> tuple[int, NDArray[Any]]:
    """Return (Unix stamp in nanoseconds, pixels) of the bytes of an image message; raises `EdgemtlError`."""
    message = deserialize(data, type_name)
    if isinstance(message, Image):
        image = to_array(message)
    elif isinstance(message, CompressedImage):
        image = decompress(message)
    else:
        raise CameraError(f"{type_name} is no image")
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec, image


def to_array(message: Image) -> NDArray[Any]:
    """Return an image's pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16; raises `CameraError`."""
    if message.encoding not in ENCODINGS:
        raise CameraError(f"cannot read the encoding '{message.encoding}'; {', '.join(ENCODINGS)} can be read")
    sample, channels, order = ENCODINGS[message.encoding]
    height, width, row = message.height, message.width, message.width * channels * sample
    if not height * width or message.step < row or len(message.data) < message.step * height:
        rows = f"{width}x{height} in rows of {message.step} bytes"
        raise CameraError(f"an image of {rows} cannot have {len(message.data)} bytes of {message.encoding}")
    rows_of_bytes = message.data[: message.step * height].reshape(height, message.step)
    pixels = np.ascontiguousarray(rows_of_bytes[:, :row])
    if order:
        return np.ascontiguousarray(pixels.reshape(height, width, channels)[:, :, list(order)])
    if sample == 2:
        return pixels.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    return pixels.copy()


def decompress(message: CompressedImage) -> NDArray[Any]:
    """Return a compressed image's pixels, 16 bits kept; raises `CameraError` for what OpenCV does not decode."""
    try:
        import cv2
    except ImportError as error:
        raise CameraError(
            missing(error, "cv2", "compressed images need OpenCV: pip install 'edgemtl-runtime[opencv]'")
        ) from error
    image: NDArray[Any] | None = None
    with contextlib.suppress(cv2.error):  # raised for no bytes at all; others give None
        image = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise CameraError(f"{len(message.data)} bytes of format '{message.format}' are no image that OpenCV decodes")
    if image.ndim == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image[:, :, 2::-1])
    if image.ndim == 3 or image.dtype not in (np.uint8, np.uint16):
        shape = "x".join(str(v) for v in image.shape)
        raise CameraError(
            f"cannot read {image.dtype} {shape} (format '{message.format}'); grey may have 16 bits, colour 8"
        )
    return image
