"""Camera devices of Linux by V4L2 itself, stamped by the driver, where linuxpy is installed (GPL-3.0-or-later).

OpenCV's way (`opencv.DeviceCamera`) is taken otherwise. This one also counts the frames that the driver calls corrupt,
notices a silent device sooner, and takes no picture that the driver has begun to fill again.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, UsageError, flag, missing
from ..frame import Frame, StampSource
from . import PLAUSIBLE_NS, Options, check_known, take

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
"""Pixel formats that are understood, by the names of V4L2's four characters."""


class V4l2Camera:
    """A device as ``/dev/video0``; ``?width=`` ``?height=`` ``?fps=`` and ``?format=`` ask, the driver decides.

    Stamps are the driver's where they are of the monotonic clock, else of the arrival. Y16 gives 16-bit pictures.
    """

    live = True
    owned_pictures = True

    def __init__(self, name: str, path: str, options: Options) -> None:
        try:
            from linuxpy.video import device as v4l2
        except ImportError as error:
            hint = "v4l2:// needs linuxpy: pip install 'edgemtl-runtime[v4l2]'"
            raise UsageError(missing(error, "linuxpy", hint)) from error
        self.name, self.what, self.closed, self.v4l2 = name, flag(name, path), False, v4l2
        self.dropped: Callable[[str], None] = lambda cause: None
        self.begun = False
        check_known(options, path, ["width", "height", "fps", "format"])
        width, height, fps = take({k: v for k, v in options.items() if k != "format"}, path, width=0, height=0, fps=0)
        kind = options.get("format", "").upper()
        if kind and kind not in FORMATS:
            raise UsageError(f"{self.what}: option format={kind} is not one of {', '.join(FORMATS)}")
        try:
            self.device = v4l2.Device(path)
            self.device.open()
            self.capture = v4l2.VideoCapture(self.device, size=BUFFERS)
            now = self.capture.get_format()
            size = (round(width) or now.width, round(height) or now.height)
            fourcc = FORMATS[kind] if kind else _fourcc(now.pixel_format)
            self.capture.set_format(*size, fourcc)
            if fps:
                self.capture.set_fps(fps)
            self.capture.open()
        except Exception as error:  # OSError of the kernel and linuxpy's own kinds
            self._shut()
            raise CameraError(
                f"{self.what}: cannot be opened ({error}); check that it is there and not in use"
            ) from None
        self.format = self.capture.get_format()
        self.kind = _fourcc(self.format.pixel_format).strip()
        if self.kind not in FORMATS and self.kind != "JPEG":
            self._shut()
            raise CameraError(f"{self.what}: gives {self.kind}; ask for one of {', '.join(FORMATS)} by ?format=")

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal picture is a repeated one: where the sensor's own values come."""
        return self.kind not in ("MJPG", "JPEG")

    def frames(self) -> Iterator[Frame]:
        """Yield frames as the driver fills them; raises `CameraError` when the device is gone or silent."""
        index, self.begun = 0, True
        try:
            while not self.closed:
                ready, _, _ = select.select([self.device.fileno()], [], [], READ_S)
                if self.closed:
                    return
                if not ready:
                    raise CameraError(f"{self.what}: no frame for {READ_S:g} s")
                # Copied while the buffer is ours: the driver fills it again once it is given back.
                taken = self.capture.buffer.raw_read(into=bytearray(max(self.format.size, 1)))
                now_ns = time.monotonic_ns()
                if taken.flags & self.v4l2.BufferFlag.ERROR:
                    self.dropped("corrupt frame")
                    continue
                image = decoded(self.kind, bytes(taken.data), self.format)
                if image is None:
                    self.dropped("corrupt frame")
                    continue
                stamp_ns, source = self._stamp(taken, now_ns)
                yield Frame(image, stamp_ns, self.name, index, source, "", now_ns)
                index += 1
        except OSError as error:
            if not self.closed:
                raise CameraError(f"{self.what}: stopped after {index} frames ({error.strerror})") from None
        finally:
            self._shut()

    def _stamp(self, taken: Any, now_ns: int) -> tuple[int, StampSource]:
        if taken.flags & self.v4l2.BufferFlag.TIMESTAMP_MONOTONIC:
            told = taken.buff.timestamp
            stamp_ns = int(told.secs) * 1_000_000_000 + int(told.usecs) * 1000
            if 0 <= now_ns - stamp_ns < PLAUSIBLE_NS:
                return stamp_ns, "driver"
        return now_ns, "arrival"

    def _shut(self) -> None:
        for part in ("capture", "device"):
            with contextlib.suppress(Exception):  # a device that was pulled out cannot even be closed
                getattr(self, part).close()

    def close(self) -> None:
        """Stop reading; the thread that reads closes the device, where there is one."""
        self.closed = True
        if not self.begun:
            self._shut()


def decoded(kind: str, data: bytes, form: Any) -> NDArray[Any] | None:
    """Return a buffer of a pixel format as RGB or grey, None where it is not whole."""
    import cv2

    from .opencv import rgb

    if kind in ("MJPG", "JPEG"):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR) if data else None
        return None if image is None else rgb(image)
    height, width = int(form.height), int(form.width)
    bytes_a_pixel = {"GREY": 1, "RGB3": 3, "BGR3": 3}.get(kind, 2)
    stride = int(getattr(form, "bytes_per_line", 0)) or width * bytes_a_pixel
    if len(data) < stride * (height - 1) + width * bytes_a_pixel:
        return None
    padded = np.frombuffer(data.ljust(stride * height, b"\0"), np.uint8, stride * height).reshape(height, stride)
    rows = np.ascontiguousarray(padded[:, : width * bytes_a_pixel])
    if kind == "GREY":
        return rows
    if kind == "Y16":
        return rows.view("<u2").astype(np.uint16)
    image = rows.reshape(height, width, bytes_a_pixel)
    codes = {"YUYV": cv2.COLOR_YUV2RGB_YUYV, "UYVY": cv2.COLOR_YUV2RGB_UYVY, "BGR3": cv2.COLOR_BGR2RGB}
    return np.asarray(cv2.cvtColor(image, codes[kind])) if kind in codes else image


def _fourcc(pixel_format: int) -> str:
    return int(pixel_format & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace")
