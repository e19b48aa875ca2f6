"""Video4Linux2 (V4L2) devices, stamped by the driver, where linuxpy is installed (GPL-3.0-or-later).

`opencv.DeviceCamera` is used otherwise. This one also counts the frames that the driver marks as corrupt, detects a
silent device sooner, and copies each buffer before the driver fills it again.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, UsageError, missing
from ..frame import Frame, StampSource
from .base import LiveCamera
from .clock import PLAUSIBLE_NS
from .mjpeg import decoded
from .options import REDUCTIONS, Options, check_known, take, take_word
from .source import present_devices

READ_S = 2.0
"""A device that gives no frame for longer is lost."""
BUFFERS = 4
FORMATS = {
    "MJPG": "MJPG",
    "YUYV": "YUYV",
    "UYVY": "UYVY",
    "GREY": "GREY",
    "Y16": "Y16 ",
    "RGB3": "RGB3",
    "BGR3": "BGR3",
}
"""Supported pixel formats and their FourCC codes."""


class V4l2Camera(LiveCamera):
    """A V4L2 device as ``/dev/video0``; ``?width=`` ``?height=`` ``?fps=`` ``?format=`` are requests to the driver.

    Stamps are the driver's where they are on the monotonic clock, else of the arrival. Y16 gives 16-bit images.
    """

    def __init__(self, name: str, path: str, options: Options) -> None:
        try:
            from linuxpy.video import device as v4l2
        except ImportError as error:
            hint = "v4l2:// needs linuxpy: pip install 'edgemtl-runtime[v4l2]'"
            raise UsageError(missing(error, "linuxpy", hint)) from error
        super().__init__(name, path)
        self.v4l2 = v4l2
        self.device: Any = None
        self.capture: Any = None
        check_known(options, path, ["width", "height", "fps", "format", "reduce"])
        sizes = {key: value for key, value in options.items() if key not in ("format", "reduce")}
        width, height, fps = take(sizes, path, width=0, height=0, fps=0)
        self.reduce = int(take_word(options, path, "reduce", REDUCTIONS))
        pixel_format = options.get("format", "").upper()
        if pixel_format and pixel_format not in FORMATS:
            raise UsageError(f"{self.label}: option format={pixel_format} is not one of {', '.join(FORMATS)}")
        try:
            self.device = v4l2.Device(path)
            self.device.open()
            self.capture = v4l2.VideoCapture(self.device, size=BUFFERS)
            current = self.capture.get_format()
            size = (round(width) or current.width, round(height) or current.height)
            fourcc = FORMATS[pixel_format] if pixel_format else _fourcc(current.pixel_format)
            self.capture.set_format(*size, fourcc)
            if fps:
                self.capture.set_fps(fps)
            self.capture.open()
        except Exception as error:  # OSError of the kernel, and errors of linuxpy
            self._release()
            raise CameraError(
                f"{self.label}: cannot be opened ({error}); check that it is there and not in use{present_devices()}"
            ) from None
        self.format = self.capture.get_format()
        self.pixel_format = _fourcc(self.format.pixel_format).strip()
        if self.pixel_format not in FORMATS and self.pixel_format != "JPEG":
            self._release()
            raise CameraError(
                f"{self.label}: gives {self.pixel_format}; ask for one of {', '.join(FORMATS)} by ?format="
            )
        if self.reduce > 1 and self.drops_repeats:
            self._release()
            raise UsageError(f"{self.label}: gives {self.pixel_format}, and ?reduce= is of JPEG; add &format=MJPG")

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal image is a repeated one: true where no codec is between."""
        return self.pixel_format not in ("MJPG", "JPEG")

    def _frames(self) -> Iterator[Frame]:
        index = 0
        try:
            while not self.closed:
                ready, _, _ = select.select([self.device.fileno()], [], [], READ_S)
                if self.closed:
                    return
                if not ready:
                    raise CameraError(f"{self.label}: no frame for {READ_S:g} s")
                # Copied while the buffer is dequeued: the driver fills it again once it is queued.
                buffer = self.capture.buffer.raw_read(into=bytearray(max(self.format.size, 1)))
                now_ns = time.monotonic_ns()
                if buffer.flags & self.v4l2.BufferFlag.ERROR:
                    self.events.frame_dropped("corrupt frame")
                    continue
                image = decode(self.pixel_format, bytes(buffer.data), self.format, self.reduce)
                if image is None:
                    self.events.frame_dropped("corrupt frame")
                    continue
                stamp_ns, source = self._stamp(buffer, now_ns)
                yield Frame(image, stamp_ns, self.name, index, source, "", now_ns)
                index += 1
        except OSError as error:
            if not self.closed:
                raise CameraError(f"{self.label}: stopped after {index} frames ({error.strerror})") from None

    def _stamp(self, buffer: Any, now_ns: int) -> tuple[int, StampSource]:
        if buffer.flags & self.v4l2.BufferFlag.TIMESTAMP_MONOTONIC:
            timestamp = buffer.buff.timestamp
            stamp_ns = int(timestamp.secs) * 1_000_000_000 + int(timestamp.usecs) * 1000
            if 0 <= now_ns - stamp_ns < PLAUSIBLE_NS:
                return stamp_ns, "driver"
        return now_ns, "arrival"

    def _release(self) -> None:
        for opened in (self.capture, self.device):
            with contextlib.suppress(Exception):  # a device that was unplugged cannot even be closed
                opened.close()


def decode(pixel_format: str, data: bytes, layout: Any, reduce: int = 1) -> NDArray[Any] | None:
    """Return a buffer as an RGB or grey image, None if incomplete; ``layout`` holds width, height and stride.

    A JPEG's size is divided by ``reduce``.
    """
    import cv2

    if pixel_format in ("MJPG", "JPEG"):
        return decoded(data, reduce)
    height, width = int(layout.height), int(layout.width)
    bytes_per_pixel = {"GREY": 1, "RGB3": 3, "BGR3": 3}.get(pixel_format, 2)
    stride = int(getattr(layout, "bytes_per_line", 0)) or width * bytes_per_pixel
    if len(data) < stride * (height - 1) + width * bytes_per_pixel:
        return None
    padded = np.frombuffer(data.ljust(stride * height, b"\0"), np.uint8, stride * height).reshape(height, stride)
    rows = np.ascontiguousarray(padded[:, : width * bytes_per_pixel])
    if pixel_format == "GREY":
        return rows
    if pixel_format == "Y16":
        return rows.view("<u2").astype(np.uint16)
    image = rows.reshape(height, width, bytes_per_pixel)
    codes = {"YUYV": cv2.COLOR_YUV2RGB_YUYV, "UYVY": cv2.COLOR_YUV2RGB_UYVY, "BGR3": cv2.COLOR_BGR2RGB}
    return np.asarray(cv2.cvtColor(image, codes[pixel_format])) if pixel_format in codes else image


def _fourcc(pixel_format: int) -> str:
    return int(pixel_format & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace")
