"""Sources that OpenCV reads: folders of pictures, video files, devices and streams."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, EdgemtlError
from ..frame import Frame, StampSource
from . import NOMINAL_FPS, Options, Pace, checked_size, redact, take

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its own lines would stand beside ours, passwords and all
try:
    import cv2
except ImportError as error:
    raise EdgemtlError("folders, videos and cameras need OpenCV: pip install 'edgemtl-runtime[opencv]'") from error

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 5000, 5000


def rgb(image: NDArray[Any]) -> NDArray[Any]:
    """Return an OpenCV image in RGB order, grey as it is, without an alpha channel."""
    if image.ndim == 2:
        return image
    if image.dtype == np.uint16:  # colour pictures have 8 bits here; 16 are for thermal ones
        image = (image >> 8).astype(np.uint8)
    converted: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return converted


class FolderCamera:
    """The pictures of a folder in the order of their names; 16-bit ones keep their bits."""

    def __init__(self, name: str, folder: Path, epoch_ns: int, options: Options) -> None:
        self.name, self.folder = name, folder
        (fps,) = take(options, str(folder), fps=0)
        self.live = fps > 0
        self.pace = Pace(epoch_ns, fps or NOMINAL_FPS, self.live)
        self.files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
        if not self.files:
            raise CameraError(f"--{name} {folder}: holds no pictures ({', '.join(IMAGES)})")

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures."""
        return checked_size(self._read(), lambda frame: str(self.folder / frame.name))

    def _read(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            image = cv2.imread(str(file), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
            if image is None:
                raise CameraError(f"{file}: cannot be read as a picture; remove or replace it")
            if image.dtype not in (np.uint8, np.uint16):
                raise CameraError(f"{file}: has {8 * image.itemsize} bits a value; give pictures of 8 or 16 bits")
            stamp_ns = self.pace.wait(index)
            if self.pace.closed:
                return
            yield Frame(rgb(image), stamp_ns, self.name, index, "rate", file.stem, time.monotonic_ns())

    def close(self) -> None:
        """End the reading."""
        self.pace.closed = True


class VideoCamera:
    """A video file, stamped by its own frame rate."""

    def __init__(self, name: str, file: Path, epoch_ns: int, options: Options) -> None:
        self.name, self.file = name, file
        (fps,) = take(options, str(file), fps=0)
        self.live = fps > 0
        self.capture = cv2.VideoCapture(str(file))
        if not self.capture.isOpened():
            raise CameraError(f"--{name} {file}: cannot be opened as a video")
        own = self.capture.get(cv2.CAP_PROP_FPS)
        self.pace = Pace(epoch_ns, fps or (own if 0 < own < 1000 else NOMINAL_FPS), self.live)

    def frames(self) -> Iterator[Frame]:
        """Yield the video's frames."""
        return checked_size(self._read(), lambda frame: f"--{self.name} {self.file} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        index = 0
        try:
            while not self.pace.closed:
                good, image = self.capture.read()
                if not good:
                    if not index:
                        raise CameraError(f"--{self.name} {self.file}: holds no readable frame")
                    return
                stamp_ns = self.pace.wait(index)
                source: StampSource = "rate" if self.live else "file"
                yield Frame(rgb(image), stamp_ns, self.name, index, source, f"{index:06d}", time.monotonic_ns())
                index += 1
        finally:
            self.capture.release()

    def close(self) -> None:
        """End the reading; the thread that reads releases the file, for FFmpeg bears no other one doing it."""
        self.pace.closed = True


class StreamCamera:
    """A camera device or a network stream; OpenCV tells no capture times, so frames are stamped when they arrive."""

    live = True

    def __init__(self, name: str, source: int | str, options: Options) -> None:
        self.name, self.source = name, source
        take(options, str(source))
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        log_level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its lines name the URL with the password
        try:
            if isinstance(source, int):
                self.capture = cv2.VideoCapture(source)
            else:
                self.capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, timeouts)
        finally:
            cv2.utils.logging.setLogLevel(log_level)
        if not self.capture.isOpened():
            what = f"camera {source}" if isinstance(source, int) else redact(source)
            raise CameraError(f"--{name} {what}: cannot be opened; check that it is there and not in use")
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the stream stops or changes its size."""
        return checked_size(self._read(), lambda frame: f"--{self.name} {redact(self.source)} frame {frame.index}")

    def _read(self) -> Iterator[Frame]:
        index = 0
        while not self.closed:
            good, image = self.capture.read()
            now_ns = time.monotonic_ns()
            if not good:
                if self.closed:
                    return
                raise CameraError(
                    f"--{self.name} {redact(self.source)}: stopped after {index} frames; "
                    "check the camera and start again"
                )
            yield Frame(rgb(image), now_ns, self.name, index, "arrival", "", now_ns)
            index += 1

    def close(self) -> None:
        """Stop reading; the capture is released by the thread that reads or with this object."""
        self.closed = True
