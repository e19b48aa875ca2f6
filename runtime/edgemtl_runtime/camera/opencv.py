"""OpenCV readers for video files, devices and streams, used where no better library is installed."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, EdgemtlError, UsageError, flag, missing
from ..frame import UNKNOWN_NS, Frame, StampSource
from .address import encoded
from .base import NO_EVENTS, CameraEvents, LiveCamera, PlaybackCamera, checked_size
from .clock import PLAUSIBLE_NS, ArrivalClock, Epoch, Pace, SourceClock
from .options import NOMINAL_FPS, Options, check_known, take
from .redaction import redact
from .source import present_devices

os.environ.setdefault(
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2"
)  # seconds until a silent device is lost; the default is 10
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its own log lines hold URLs with passwords
try:
    import cv2
except ImportError as error:
    raise EdgemtlError(
        missing(error, "cv2", "folders, videos and cameras need OpenCV: pip install 'edgemtl-runtime[opencv]'")
    ) from error

T = TypeVar("T")
log = logging.getLogger("edgemtl_runtime")
OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 3000, 2000
INTERVAL_WINDOW = 15
"""Presentation timestamps that the frame interval of a stream with B-frames is estimated from."""
RAW = ("Y16", "GREY")
"""Formats of one sample per pixel, which OpenCV is asked not to convert."""
UNTIMED = (".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg")
"""Files without presentation timestamps, whose frames FFmpeg counts."""
GREY = (b"Y800", b"GREY", b"Y1\x00\x10")
"""Pixel formats of FFmpeg that OpenCV does not convert: 8 bits, and 16 bits little endian."""
DEEP = re.compile(
    rb"Y1\0[\x09-\x10]|[\x09-\x10]\0001Y|G3\0[\x09-\x10]|[\x09-\x10]\0003G|(RGB|BGR)0|0(RGB|BGR)|(RB|BR)A@"
)
"""Pixel formats of FFmpeg with 9 to 16 bits in grey or RGB, of which OpenCV keeps 8."""


def rgb(image: NDArray[Any]) -> NDArray[Any]:
    """Return a captured image (H, W[, 3]) of 8 bits in RGB order, grey as it is."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class VideoCamera(PlaybackCamera):
    """A video file, stamped by its presentation timestamps; ``?fps=20`` and ``?speed=1`` as in `AvVideoCamera`.

    Rotated videos are upright, and grey ones have one channel, of 16 bits where the file has them. Where OpenCV has no
    timestamps the nominal rate is used (`StampSource` "rate"). Before version 5 it converts all colours by BT.601.
    """

    def __init__(self, name: str, file: Path, epoch: Epoch, options: Options) -> None:
        self.name, self.uri = name, str(file)
        fps, self.speed = take(options, str(file), fps=0, speed=0)
        self.live = fps > 0 or self.speed > 0
        self.rated = fps > 0
        self.counted = file.suffix.lower() in UNTIMED
        self.capture = cv2.VideoCapture(str(file))
        if not self.capture.isOpened():
            raise CameraError(f"{self.label}: cannot be opened as a video")
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        pixel_format = int(self.capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(8, "little", signed=True)[:4]
        if pixel_format not in GREY and DEEP.fullmatch(pixel_format):
            self.capture.release()
            raise UsageError(
                f"{self.label}: has more than 8 bits a value, and OpenCV would keep 8: pip install "
                "'edgemtl-runtime[streams]'"
            )
        self.grey = pixel_format in GREY or pixel_format.startswith(b"Y1")
        if pixel_format in GREY:
            self.capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        file_fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.period_s = 1 / file_fps if 0 < file_fps < 1000 else 1 / NOMINAL_FPS
        self.rate = fps or (self.speed or 1.0) / self.period_s
        if self.counted and not self.rated:
            log.warning("%s: holds no times; %g images a second are assumed: give ?fps=", self.label, 1 / self.period_s)
        self.pace = Pace(epoch, fps or 1.0, self.live, self.speed)

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the video's frames."""
        return checked_size(self._read(), lambda frame: f"{self.label} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        index, begin, seconds = 0, None, 0.0
        try:
            while not self.pace.closed:
                good, image = self.capture.read()
                if not good:
                    if not index:
                        raise CameraError(f"{self.label}: holds no readable frame")
                    return
                position_s = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
                # some of its back ends have no timestamps, or repeat one
                timed = position_s >= 0 if begin is None else position_s > seconds
                seconds = position_s if timed else seconds + self.period_s * bool(index)
                begin = seconds if begin is None else begin
                if self.rated:
                    stamp_ns = self.pace.wait(index)
                else:
                    stamp_ns = self.pace.wait_until(self.pace.epoch.now_ns + round((seconds - begin) * 1e9))
                source: StampSource = "file" if timed and not (self.rated or self.counted) else "rate"
                image = image[:, :, 0].copy() if self.grey and image.ndim == 3 else rgb(image)
                yield Frame(image, stamp_ns, self.name, index, source, f"{index:06d}", time.monotonic_ns())
                index += 1
        finally:
            self.capture.release()

    def close(self) -> None:
        """Stop the reading; the reading thread releases the file: FFmpeg does not bear another one doing it."""
        super().close()


class _CaptureCamera(LiveCamera):
    """Frames of an open `cv2.VideoCapture`, stamped on arrival where a subclass has no better time."""

    def __init__(self, name: str, uri: str, capture: Any, hint: str = "") -> None:
        super().__init__(name, uri)
        self.capture = capture
        self.arrivals = ArrivalClock()
        if not capture.isOpened():
            raise CameraError(f"{self.label}: cannot be opened; check that it is there and not in use{hint}")

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while not self.closed:
            good, captured = self.capture.read()
            now_ns = time.monotonic_ns()
            if not good:
                if self.closed:
                    return
                raise CameraError(f"{self.label}: stopped after {index} frames; check the camera")
            stamp_ns, source, uncertainty_ns = self._stamp(now_ns)
            image = self._convert(captured)
            yield Frame(image, stamp_ns, self.name, index, source, "", now_ns, uncertainty_ns=uncertainty_ns)
            index += 1

    def _release(self) -> None:
        self.capture.release()

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        return now_ns, "arrival", self.arrivals.uncertainty(now_ns)

    def _convert(self, image: NDArray[Any]) -> NDArray[Any]:
        return rgb(image)


class DeviceCamera(_CaptureCamera):
    """A camera device; stamped by the driver where its times are of the monotonic clock, as V4L2's are.

    ``?format=Y16`` gives 16-bit images as the sensor has them; other formats are converted to RGB.
    """

    def __init__(self, name: str, device: str, options: Options) -> None:
        numeric = {key: value for key, value in options.items() if key != "format"}
        width, height, fps = take(numeric, device, width=0, height=0, fps=0)
        uri = device if not device.isdigit() else f"camera {device}"
        pixel_format = options.get("format", "").upper()
        if pixel_format and (len(pixel_format) not in (3, 4) or not pixel_format.isalnum()):
            raise UsageError(
                f"{flag(name, device)}: option format={pixel_format} is not one of V4L2's, as MJPG, YUYV, GREY or Y16"
            )
        capture = _quietly(lambda: cv2.VideoCapture(int(device) if device.isdigit() else device))
        super().__init__(name, uri, capture, present_devices())
        if pixel_format:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format.ljust(4)))
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, fps),
            (cv2.CAP_PROP_CONVERT_RGB, 0 if pixel_format in RAW else -1),
        ):
            if value > 0 or (key == cv2.CAP_PROP_CONVERT_RGB and value == 0):
                capture.set(key, value)
        self.size = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.raw = pixel_format in RAW

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal image is a repeated one: true where no codec is between."""
        fourcc = round(self.capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        return self.raw or fourcc not in (b"MJPG", b"JPEG", b"H264", b"HEVC")

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        driver_ns = round(self.capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if 0 <= now_ns - driver_ns < PLAUSIBLE_NS:
            return driver_ns, "driver", 0
        return super()._stamp(now_ns)

    def _convert(self, image: NDArray[Any]) -> NDArray[Any]:
        if not self.raw:
            return rgb(image)
        samples = self.size[0] * self.size[1]
        if image.nbytes not in (samples, 2 * samples):  # the driver delivers another format
            return rgb(image)
        depth = np.uint16 if image.nbytes == 2 * samples else np.uint8
        return np.ascontiguousarray(image).view(depth).reshape(self.size)


class StreamCamera(_CaptureCamera):
    """A network stream read by OpenCV's FFmpeg, which outputs a frame when the next one begins.

    Stamps of RTSP with H.264 or H.265 are the presentation timestamps, mapped by the arrival of the previous frames.
    With B-frames the delay in intervals is unknown: then, and of all other streams, stamps are those of arrival, and
    ``uncertainty_ns`` is how much that may be.
    """

    def __init__(self, name: str, url: str, options: Options) -> None:
        check_known(options, url, [])
        parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        has_threads = "CAP_PROP_N_THREADS" in vars(cv2)  # since OpenCV 4.8
        if has_threads:  # threads by frames would hold some of them back
            parameters += [cv2.CAP_PROP_N_THREADS, 1]
        super().__init__(
            name, redact(url), _quietly(lambda: cv2.VideoCapture(encoded(url), cv2.CAP_FFMPEG, parameters))
        )
        fourcc = round(self.capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).lower()
        self.has_timestamps = url.startswith("rtsp") and fourcc in (b"h264", b"avc1", b"hevc", b"hev1")
        self.has_frame_types = has_threads and "CAP_PROP_FRAME_TYPE" in vars(cv2)
        self.clock = SourceClock()
        self.previous_ns: int | None = None
        self.timestamps: deque[int] = deque(maxlen=INTERVAL_WINDOW)
        self.b_run = self.b_frames = 0

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        previous_ns, self.previous_ns = self.previous_ns, now_ns
        _, _, uncertainty_ns = super()._stamp(now_ns)
        if not self.has_timestamps:
            return now_ns, "arrival", uncertainty_ns
        source_ns = round(self.capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        self.timestamps.append(source_ns)
        self._count_b_frames()
        if self.b_frames or not self.has_frame_types or previous_ns is None:
            delay = 1 + 2 * self.b_frames  # intervals: in the parser, in the decoder and in the encoder
            known = self.has_frame_types and len(self.timestamps) == INTERVAL_WINDOW
            self.clock.observe(source_ns, now_ns)
            stamp_ns, uncertainty_ns = self.clock.stamp(source_ns)
            late_ns = now_ns - stamp_ns + delay * int(np.median(np.diff(self.timestamps))) if known else UNKNOWN_NS
            return now_ns, "arrival", min(uncertainty_ns + late_ns, UNKNOWN_NS)
        self.clock.observe(source_ns, previous_ns)
        stamp_ns, uncertainty_ns = self.clock.stamp(source_ns)
        return stamp_ns, "stream", uncertainty_ns

    def _count_b_frames(self) -> None:
        """Update the longest run of B-frames."""
        frame_type = round(self.capture.get(cv2.CAP_PROP_FRAME_TYPE)) if self.has_frame_types else 0
        self.b_run = self.b_run + 1 if frame_type == ord("B") else 0
        self.b_frames = max(self.b_frames, self.b_run)


def _quietly(open_capture: Callable[[], T]) -> T:
    """Open a capture without OpenCV's log lines, which hold the URL with its password."""
    log_level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return open_capture()
    finally:
        cv2.utils.logging.setLogLevel(log_level)
