"""GStreamer pipelines, and with them the CSI cameras of Jetson and Raspberry Pi."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, UsageError, flag
from ..frame import Frame, StampSource
from .base import LiveCamera
from .clock import ArrivalClock
from .gst_rtp import TimestampProbe
from .options import Options, check_known, take, take_word
from .redaction import quotes_hidden

START_S, READ_S = 5.0, 2.0
"""A pipeline that delivers no first frame, or no next one, for longer is lost."""
FORMATS = ("RGB", "GRAY8", "GRAY16_LE")


class GStreamerCamera(LiveCamera):
    """Frames of a pipeline: ``gst:videotestsrc is-live=true``, or ``csi://0`` for the first CSI camera.

    The pipeline's buffers are stamped on its clock, the system's monotonic one; with another clock, on arrival. RTP
    streams have the sender's timestamps, mapped by the arrival of its packets (`TimestampProbe`).
    """

    finished = False

    def __init__(self, name: str, address: str, options: Options) -> None:
        super().__init__(name, address if address.startswith("csi:") else "gst:")
        self.gst = gst = load()
        if address.startswith("csi:"):
            text = csi(gst, name, address.removeprefix("csi://"), options)
        else:
            check_known(options, "gst:", ["format"])
            pixel_format = take_word(options, "gst:", "format", FORMATS)
            text = f"{address.removeprefix('gst:')} ! videoconvert ! video/x-raw,format={pixel_format}"
        self.text = text
        try:
            self.pipeline = gst.parse_launch(f"{text} ! appsink name=edgemtl max-buffers=2 drop=false sync=false")
        except Exception as error:  # GLib.Error, of a module that may not be there
            reason = quotes_hidden(str(getattr(error, "message", error)), text)
            raise UsageError(f"{self.label} no such pipeline ({reason})") from None
        self.sink = self.pipeline.get_by_name("edgemtl")
        self.arrivals, self.probe = ArrivalClock(), TimestampProbe(gst, self.pipeline)
        if self.pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            reason = self._reason()
            self.pipeline.set_state(gst.State.NULL)
            raise CameraError(f"{self.label} does not start ({reason})")

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while not self.closed:
            limit_s = READ_S if index else START_S
            sample = self.sink.emit("try-pull-sample", round(limit_s * 1e9))
            now_ns = time.monotonic_ns()
            if self.closed:
                return
            if sample is None:
                if self.sink.get_property("eos") and not (reason := self._reason()):
                    self.finished = True
                    return
                reason = self._reason() or f"no frame for {limit_s:g} s"
                raise CameraError(f"{self.label} stopped after {index} frames ({reason})")
            stamp_ns, source, uncertainty_ns = self._stamp(sample.get_buffer(), now_ns)
            image = self._image(sample)
            yield Frame(image, stamp_ns, self.name, index, source, "", now_ns, uncertainty_ns=uncertainty_ns)
            index += 1

    def _stamp(self, buffer: Any, now_ns: int) -> tuple[int, StampSource, int]:
        clock = self.pipeline.get_clock()
        monotonic = clock is not None and type(clock).__name__.startswith("SystemClock")
        if buffer.pts == self.gst.CLOCK_TIME_NONE or not monotonic:
            return now_ns, "arrival", self.arrivals.uncertainty(now_ns)
        if (stamp := self.probe.stamp(int(buffer.pts))) is not None:
            return min(stamp[0], now_ns), "stream", stamp[1]
        if self.probe.is_remote:
            return now_ns, "arrival", self.arrivals.uncertainty(now_ns)
        return min(int(buffer.pts + self.pipeline.get_base_time()), now_ns), "driver", 0

    def _image(self, sample: Any) -> NDArray[Any]:
        caps = sample.get_caps().get_structure(0)
        width, height, pixel_format = (caps.get_value(key) for key in ("width", "height", "format"))
        deep, channels = pixel_format == "GRAY16_LE", 3 if pixel_format == "RGB" else 1
        good, mapped = sample.get_buffer().map(self.gst.MapFlags.READ)
        if not good:
            raise CameraError(
                f"{self.label} delivers memory that cannot be read; end the pipeline in nvvidconv or similar"
            )
        try:
            data = np.frombuffer(mapped.data, np.uint8).copy()
        finally:
            sample.get_buffer().unmap(mapped)
        used = width * channels * (2 if deep else 1)
        rows = np.ascontiguousarray(data[: len(data) // height * height].reshape(height, -1)[:, :used])
        if deep:
            return rows.view("<u2").astype(np.uint16)
        return rows.reshape(height, width, 3) if channels == 3 else rows

    def _reason(self) -> str:
        """Return the text of the pipeline's last error without what it may hold of an address."""
        message = self.pipeline.get_bus().timed_pop_filtered(0, self.gst.MessageType.ERROR)
        return quotes_hidden(message.parse_error()[0].message, self.text) if message else ""

    def _release(self) -> None:
        self.probe.close()
        self.pipeline.set_state(self.gst.State.NULL)


def load() -> Any:
    """Return GStreamer's Python module, started; raises `CameraError` where it is not installed."""
    # GStreamer brings libunwind, whose functions have the names of GCC's: with them, a C++ exception of a library that
    # is loaded later (of ONNX Runtime, about a file that is no network) is a segmentation fault. The first loaded wins.
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import Gst, GstApp  # noqa: F401
    except (ImportError, ValueError) as error:
        raise UsageError(
            "gst: and csi: need GStreamer for Python: apt install python3-gi gir1.2-gst-plugins-base-1.0, and make the "
            "environment with --system-site-packages"
        ) from error
    Gst.init(None)
    return Gst


def csi(gst: Any, name: str, number: str, options: Options) -> str:
    """Return the pipeline of a CSI camera: Argus on a Jetson, libcamera elsewhere."""
    uri = f"csi://{number}"
    if not (number.isascii() and number.isdigit() and len(number) < 3):
        raise UsageError(f"{flag(name, uri)}: is not csi:// with a number")
    width, height, fps = (round(v) for v in take(options, uri, width=1280, height=720, fps=30))
    size = f"width={width},height={height},framerate={fps}/1"
    if gst.ElementFactory.find("nvarguscamerasrc"):
        return (
            f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{size} ! nvvidconv ! "
            "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=RGB"
        )
    if gst.ElementFactory.find("libcamerasrc"):
        if int(number):  # libcamera identifies cameras by name
            raise UsageError(f"{flag(name, uri)}: give gst:libcamerasrc camera-name=NAME; `cam --list` lists the names")
        return f"libcamerasrc ! video/x-raw,{size} ! videoconvert ! video/x-raw,format=RGB"
    raise UsageError(f"{flag(name, uri)}: GStreamer has neither nvarguscamerasrc (Jetson) nor libcamerasrc here")
