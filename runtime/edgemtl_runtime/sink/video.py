"""Annotated pictures, side by side, as a video file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..draw import draw
from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result


class Video:
    """An MPEG-4 file; it is written aside and has its name when it is complete."""

    name = "video"
    on_main_thread = False

    def __init__(self, file: Path, fps: float) -> None:
        if file.suffix.lower() not in (".mp4", ".avi", ".mkv"):
            raise EdgemtlError(f"--video {file}: end the name in .mp4, .avi or .mkv")
        self.file, self.fps = file, fps
        self.part = file.with_name(f".{file.stem}.part{file.suffix}")
        self.writer: cv2.VideoWriter | None = None
        self.size = (0, 0)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.part.touch()
        except OSError as error:
            raise EdgemtlError(f"--video {file}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result) -> None:
        """Draw and write one picture."""
        image = draw(pair, result)
        if self.writer is None:
            self.size = (image.shape[1], image.shape[0])
            self.writer = cv2.VideoWriter(str(self.part), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self.size)
            if not self.writer.isOpened():
                raise EdgemtlError(f"--video {self.file}: this OpenCV cannot write such a video")
        if image.shape[1::-1] != self.size:  # a camera that changed its size, or results in the other's pixels
            image = np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file and give it its name; without a picture there is no file."""
        if self.writer is None:
            self.part.unlink(missing_ok=True)
            return
        self.writer.release()
        if not cv2.VideoCapture(str(self.part)).isOpened():  # OpenCV's writer tells no errors
            raise EdgemtlError(f"--video {self.file}: was not written whole (a full disk?); see {self.part}")
        self.part.replace(self.file)
