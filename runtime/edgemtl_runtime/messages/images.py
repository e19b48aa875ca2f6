"""Pixels of ROS 2 image messages: raw ones in the encodings of `ENCODINGS`, and compressed ones as image files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, missing
from ..frame import StampedImage
from ..image_file import ImageFileError
from ..pixels import as_frame, decode
from .store import CompressedImage, Image, deserialize

DEPTH_HEADER = 12
"""Bytes before the PNG of ``compressedDepth``: its format, and two parameters of 32FC1."""
PNG = b"\x89PNG"


@dataclass(frozen=True)
class Encoding:
    """An encoding of sensor_msgs/image_encodings.hpp: NumPy type of a sample, samples a pixel, and the rest.

    ``order`` has the channels of red, green and blue. ``conversion`` names OpenCV's colour conversion from YUV 4:2:2 or
    a Bayer pattern to RGB.
    """

    dtype: str
    channels: int = 1
    order: tuple[int, ...] = ()
    conversion: str = ""


RGB, BGR = (0, 1, 2), (2, 1, 0)
ENCODINGS = {
    "rgb8": Encoding("u1", 3, RGB),
    "bgr8": Encoding("u1", 3, BGR),
    "rgba8": Encoding("u1", 4, RGB),
    "bgra8": Encoding("u1", 4, BGR),
    "8UC3": Encoding("u1", 3, BGR),  # names no colours; its writers are OpenCV programs, whose order is BGR
    "8UC4": Encoding("u1", 4, BGR),
    "mono8": Encoding("u1"),
    "8UC1": Encoding("u1"),
    "mono16": Encoding("u2"),
    "16UC1": Encoding("u2"),
    "16SC1": Encoding("i2"),
    "32SC1": Encoding("i4"),
    "32FC1": Encoding("f4"),
    "64FC1": Encoding("f8"),
    "rgb16": Encoding("u2", 3, RGB),
    "bgr16": Encoding("u2", 3, BGR),
    "rgba16": Encoding("u2", 4, RGB),
    "bgra16": Encoding("u2", 4, BGR),
    "16UC3": Encoding("u2", 3, BGR),
    "yuv422": Encoding("u1", 2, conversion="YUV2RGB_UYVY"),
    "uyvy": Encoding("u1", 2, conversion="YUV2RGB_UYVY"),
    "yuv422_yuy2": Encoding("u1", 2, conversion="YUV2RGB_YUY2"),
    "yuyv": Encoding("u1", 2, conversion="YUV2RGB_YUY2"),
    **{
        f"bayer_{pattern}{bits}": Encoding(f"u{bits // 8}", conversion=f"Bayer{pattern.upper()}2RGB")
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
}
"""By name."""


def image_of(data: bytes, type_name: str) -> StampedImage:
    """Return what the bytes of an image message hold; raises `EdgemtlError`."""
    message = deserialize(data, type_name)
    if isinstance(message, Image):
        image = to_array(message)
    elif isinstance(message, CompressedImage):
        image = decompress(message)
    else:
        raise CameraError(f"{type_name} is no image")
    stamp = message.header.stamp
    return StampedImage(stamp.sec * 1_000_000_000 + stamp.nanosec, image, message.header.frame_id)


def to_array(message: Image) -> NDArray[Any]:
    """Return an image's pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16; raises `CameraError`."""
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise CameraError(f"cannot read the encoding '{message.encoding}'; {', '.join(ENCODINGS)} can be read")
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    height, width, row = message.height, message.width, message.width * encoding.channels * dtype.itemsize
    if not height * width or message.step < row or len(message.data) < message.step * height:
        rows = f"{width}x{height} in rows of {message.step} bytes"
        raise CameraError(f"an image of {rows} cannot have {len(message.data)} bytes of {message.encoding}")
    rows_of_bytes = message.data[: message.step * height].reshape(height, message.step)
    pixels: NDArray[Any] = np.ascontiguousarray(rows_of_bytes[:, :row]).view(dtype).astype(encoding.dtype)
    if encoding.channels > 1:
        pixels = pixels.reshape(height, width, encoding.channels)
    if encoding.order:
        pixels = np.ascontiguousarray(pixels[:, :, list(encoding.order)])
    if encoding.conversion:
        pixels = _converted(pixels, encoding.conversion, message.encoding)
    try:
        return as_frame(pixels)
    except ImageFileError as error:
        raise CameraError(f"an image of {message.encoding} {error}") from error


def _converted(pixels: NDArray[Any], conversion: str, encoding: str) -> NDArray[Any]:
    """Return a Bayer or YUV image as RGB."""
    try:
        import cv2
    except ImportError as error:
        hint = f"images of {encoding} need OpenCV: pip install 'edgemtl-runtime[opencv]'"
        raise CameraError(missing(error, "cv2", hint)) from error
    try:
        return np.asarray(cv2.cvtColor(pixels, vars(cv2)[f"COLOR_{conversion}"]))
    except cv2.error:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise CameraError(f"an image of {size} cannot be {encoding}, whose pixels come in twos") from None


def decompress(message: CompressedImage) -> NDArray[Any]:
    """Return a compressed image's pixels, upright, 16 bits kept; raises `CameraError` for what is no image file."""
    data = bytes(message.data)
    if "compressedDepth" in message.format and not data.startswith(PNG):
        encoding = message.format.partition(";")[0].strip()
        if encoding != "16UC1" or not data[DEPTH_HEADER:].startswith(PNG):
            raise CameraError(f"cannot read '{message.format}'; of compressedDepth 16UC1 as PNG can be read")
        data = data[DEPTH_HEADER:]
    try:
        return as_frame(decode(data).upright())
    except ImageFileError as error:
        raise CameraError(f"an image of format '{message.format}' {error}") from error
