"""Sources that OpenCV reads where no better library is installed: video files, devices and streams."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, EdgemtlError, UsageError, flag, missing
from ..frame import UNKNOWN_NS, Frame, StampSource
from . import NOMINAL_FPS, PLAUSIBLE_NS, Options, check_known, checked_size, redact, take
from .clock import ArrivalClock, Epoch, Pace, SourceClock

os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")  # seconds until a silent device is lost; 10 of itself
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its own lines would stand beside ours, passwords and all
try:
    import cv2
except ImportError as error:
    raise EdgemtlError(
        missing(error, "cv2", "folders, videos and cameras need OpenCV: pip install 'edgemtl-runtime[opencv]'")
    ) from error

OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 3000, 2000
KNOWN_TIMES = 15
"""Presentation times that the interval of a stream with B-frames is told from."""
RAW = ("Y16", "GREY")
"""Formats of one sample a pixel, which OpenCV is asked to leave as they are."""


GREY = (b"Y800", b"GREY", b"Y1\x00\x10")
"""Pixel formats of FFmpeg that OpenCV gives as they are: 8 bits, and 16 bits little endian."""


def rgb(image: NDArray[Any]) -> NDArray[Any]:
    """Return an OpenCV image in RGB order, grey as it is, without an alpha channel."""
    if image.ndim == 2:
        return image
    if image.dtype == np.uint16:  # colour pictures have 8 bits here; 16 are for thermal ones
        image = (image >> 8).astype(np.uint8)
    converted: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return converted


class VideoCamera:
    """A video file, stamped by its own presentation times; ``?fps=20`` and ``?speed=1`` as `AvVideoCamera` has them.

    Turned videos come upright, and grey ones with one channel, of 16 bits where the file has them. Where OpenCV tells
    no times the nominal rate stands in, and the stamps say so. Before 5 it takes all colours for those of BT.601.
    """

    owned_pictures = True

    def __init__(self, name: str, file: Path, epoch: Epoch, options: Options) -> None:
        self.name, self.file = name, file
        fps, self.speed = take(options, str(file), fps=0, speed=0)
        self.live = fps > 0 or self.speed > 0
        self.rated = fps > 0
        self.capture = cv2.VideoCapture(str(file))
        if not self.capture.isOpened():
            raise CameraError(f"{flag(name, file)}: cannot be opened as a video")
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        kind = int(self.capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(8, "little", signed=True)[:4]
        self.grey = kind in GREY or kind.startswith(b"Y1")
        if kind in GREY:
            self.capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        own = self.capture.get(cv2.CAP_PROP_FPS)
        self.period_s = 1 / own if 0 < own < 1000 else 1 / NOMINAL_FPS
        self.rate = fps or (self.speed or 1.0) / self.period_s
        self.pace = Pace(epoch, fps or 1.0, self.live, self.speed)

    def frames(self) -> Iterator[Frame]:
        """Yield the video's frames."""
        return checked_size(self._read(), lambda frame: f"{flag(self.name, self.file)} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        index, begin, seconds = 0, None, 0.0
        try:
            while not self.pace.closed:
                good, image = self.capture.read()
                if not good:
                    if not index:
                        raise CameraError(f"{flag(self.name, self.file)}: holds no readable frame")
                    return
                told = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
                # some of its readers tell no times, or the same one again
                timed = told >= 0 if begin is None else told > seconds
                seconds = told if timed else seconds + self.period_s * bool(index)
                begin = seconds if begin is None else begin
                if self.rated:
                    stamp_ns = self.pace.wait(index)
                else:
                    stamp_ns = self.pace.wait_until(self.pace.epoch.now_ns + round((seconds - begin) * 1e9))
                source: StampSource = "file" if timed and not self.rated else "rate"
                image = image[:, :, 0].copy() if self.grey and image.ndim == 3 else rgb(image)
                yield Frame(image, stamp_ns, self.name, index, source, f"{index:06d}", time.monotonic_ns())
                index += 1
        finally:
            self.capture.release()

    def close(self) -> None:
        """End the reading; the thread that reads releases the file, for FFmpeg bears no other one doing it."""
        self.pace.closed = True


class _Captured:
    """Frames of an opened capture, stamped when they arrive where it does not know better."""

    live = True
    owned_pictures = True

    def __init__(self, name: str, what: str, capture: Any) -> None:
        self.name, self.what, self.capture, self.closed = name, what, capture, False
        self.arrivals = ArrivalClock()
        if not capture.isOpened():
            raise CameraError(f"{flag(name, what)}: cannot be opened; check that it is there and not in use")

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the source stops."""
        index = 0
        try:
            while not self.closed:
                good, image = self.capture.read()
                now_ns = time.monotonic_ns()
                if not good:
                    if self.closed:
                        return
                    raise CameraError(f"{flag(self.name, self.what)}: stopped after {index} frames; check the camera")
                stamp_ns, source, unsure_ns = self._stamp(now_ns)
                picture = self._picture(image)
                yield Frame(picture, stamp_ns, self.name, index, source, "", now_ns, uncertainty_ns=unsure_ns)
                index += 1
        finally:
            self.capture.release()

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        return now_ns, "arrival", self.arrivals.uncertainty(now_ns)

    def _picture(self, image: NDArray[Any]) -> NDArray[Any]:
        return rgb(image)

    def close(self) -> None:
        """Stop reading; the capture is released by the thread that reads or with this object."""
        self.closed = True


class DeviceCamera(_Captured):
    """A camera device; stamped by the driver where that tells times of the monotonic clock, as V4L2's do.

    ``?format=Y16`` gives 16-bit pictures as the sensor has them; other formats are turned to RGB.
    """

    def __init__(self, name: str, place: str, options: Options) -> None:
        words = {key: value for key, value in options.items() if key != "format"}
        width, height, fps = take(words, place, width=0, height=0, fps=0)
        kind = options.get("format", "").upper()
        if kind and (len(kind) not in (3, 4) or not kind.isalnum()):
            raise UsageError(
                f"{flag(name, place)}: option format={kind} is not one of V4L2's, as MJPG, YUYV, GREY or Y16"
            )
        device = int(place) if place.isdigit() else place
        capture = _quietly(lambda: cv2.VideoCapture(device))
        super().__init__(name, place if not place.isdigit() else f"camera {place}", capture)
        if kind:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*kind.ljust(4)))
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, fps),
            (cv2.CAP_PROP_CONVERT_RGB, 0 if kind in RAW else -1),
        ):
            if value > 0 or (key == cv2.CAP_PROP_CONVERT_RGB and value == 0):
                capture.set(key, value)
        self.size = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.raw = kind in RAW

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal picture is a repeated one: where the sensor's own values come."""
        kind = round(self.capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        return self.raw or kind not in (b"MJPG", b"JPEG", b"H264", b"HEVC")

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        told_ns = round(self.capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if 0 <= now_ns - told_ns < PLAUSIBLE_NS:
            return told_ns, "driver", 0
        return super()._stamp(now_ns)

    def _picture(self, image: NDArray[Any]) -> NDArray[Any]:
        if not self.raw:
            return rgb(image)
        samples = self.size[0] * self.size[1]
        if image.nbytes not in (samples, 2 * samples):  # the driver went on with another format
            return rgb(image)
        depth = np.uint16 if image.nbytes == 2 * samples else np.uint8
        return np.ascontiguousarray(image).view(depth).reshape(self.size)


class StreamCamera(_Captured):
    """A network stream as OpenCV's FFmpeg reads it: each picture comes when the next one begins.

    Of RTSP with H.264 or H.265 the stamps are the stream's own times, mapped by the moments at which the pictures
    before came. With B-frames nobody can tell from here by how many intervals a picture is late: then, and of all other
    streams, the stamps are those of arrival, and ``uncertainty_ns`` says how much that may be.
    """

    def __init__(self, name: str, url: str, options: Options) -> None:
        check_known(options, url, [])
        asked = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        if hasattr(cv2, "CAP_PROP_N_THREADS"):  # threads by frames would hold some of them back
            asked += [cv2.CAP_PROP_N_THREADS, 1]
        super().__init__(name, redact(url), _quietly(lambda: cv2.VideoCapture(url, cv2.CAP_FFMPEG, asked)))
        kind = round(self.capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).lower()
        self.ahead = url.startswith("rtsp") and kind in (b"h264", b"avc1", b"hevc", b"hev1")
        self.typed = hasattr(cv2, "CAP_PROP_FRAME_TYPE") and hasattr(cv2, "CAP_PROP_N_THREADS")
        self.clock = SourceClock()
        self.before_ns: int | None = None
        self.times: deque[int] = deque(maxlen=KNOWN_TIMES)
        self.in_a_row = self.b_frames = 0

    def _stamp(self, now_ns: int) -> tuple[int, StampSource, int]:
        before_ns, self.before_ns = self.before_ns, now_ns
        _, _, unsure_ns = super()._stamp(now_ns)
        if not self.ahead:
            return now_ns, "arrival", unsure_ns
        source_ns = round(self.capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        self.times.append(source_ns)
        self._count_b_frames()
        if self.b_frames or not self.typed or before_ns is None:
            late = 1 + 2 * self.b_frames  # in the parser, in the decoder and in the encoder
            known = self.typed and len(self.times) == KNOWN_TIMES
            self.clock.observe(source_ns, now_ns)
            stamp_ns, unsure_ns = self.clock.stamp(source_ns)
            late_ns = now_ns - stamp_ns + late * int(np.median(np.diff(self.times))) if known else UNKNOWN_NS
            return now_ns, "arrival", min(unsure_ns + late_ns, UNKNOWN_NS)
        self.clock.observe(source_ns, before_ns)
        stamp_ns, unsure_ns = self.clock.stamp(source_ns)
        return stamp_ns, "stream", unsure_ns

    def _count_b_frames(self) -> None:
        """Note how many pictures in a row refer to later ones, at the most."""
        kind = round(self.capture.get(cv2.CAP_PROP_FRAME_TYPE)) if self.typed else 0
        self.in_a_row = self.in_a_row + 1 if kind == ord("B") else 0
        self.b_frames = max(self.b_frames, self.in_a_row)


def _quietly(work: Any) -> Any:
    """Open without OpenCV's own lines, which name a URL with its password."""
    log_level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return work()
    finally:
        cv2.utils.logging.setLogLevel(log_level)
