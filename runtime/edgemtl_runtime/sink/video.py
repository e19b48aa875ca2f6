"""Annotated pictures, side by side, as video files that play at the speed at which the cameras saw them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..draw import draw
from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result
from .file_sink import FileSink, log
from .mp4_boxes import trim
from .partial_file import PartialFile
from .rotation import NO_LIMITS, RotationLimits, is_folder

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
COMMENT = "edgemtl"
"""What the comment tag of our files says."""
TICKS = 10_000
"""Presentation times are told in this many parts of a second."""
FRAGMENT_S = 1.0
"""A kill costs no more of an mp4 or mkv than this."""
PAUSE_S = 3600.0
"""A longer time without a picture is no pause but a clock that was set; it is left out."""
OPTIONS = {
    "mp4": {
        "movflags": "frag_keyframe+empty_moov+default_base_moof",
        "frag_duration": str(round(FRAGMENT_S * 1e6)),
        "flush_packets": "1",
    },
    "matroska": {"cluster_time_limit": str(round(FRAGMENT_S * 1e3)), "flush_packets": "1"},
    "avi": {"flush_packets": "1"},
}
ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "superfast", "tune": "zerolatency", "crf": "23"}),
    ("mpeg4", {}),
)
"""The first that this PyAV has is taken."""
BEGINS = (b"\x1aE\xdf\xa3", b"RIFF")
"""Of Matroska and AVI files."""
PACKET_BYTES = 40
"""About what a picture adds to the tables beside it."""
SCARCE_BYTES = 4 << 20
"""OpenCV does not tell that a disk is full; with less room than this it is."""


class Video(FileSink):
    """Video files: H.264 where PyAV has it, else MPEG-4, in fragments of a second, so that a kill costs only the last.

    ``fps`` is the nominal rate; pictures are shown at the times at which they were taken. Without PyAV OpenCV writes
    Matroska at that rate, as it is the form that survives a kill there.
    """

    name = "video"
    suffix = ".mp4"

    def __init__(self, given: str | Path, fps: float, limits: RotationLimits = NO_LIMITS) -> None:
        suffix = Path(given).suffix.lower()
        if suffix not in FORMATS and not is_folder(given):
            raise EdgemtlError(f"--video {given}: end the name in .mp4, .avi or .mkv")
        self.fps = fps if 0 < fps <= 1000 else 20.0
        self.has_av = find_spec("av") is not None
        if not self.has_av:
            if limits.keep_bytes:
                raise EdgemtlError(f"--video {given}: --keep-mb needs PyAV: pip install 'edgemtl-runtime[streams]'")
            self.suffix = ".mkv"
            if suffix == ".mp4" and not is_folder(given):
                given = Path(given).with_suffix(".mkv")
                log.warning("video: writes %s: without PyAV a kill would cost all of an mp4", given)
        super().__init__(given, limits)

    def begin(self, part: PartialFile) -> AvSegment | CvSegment:
        """Begin a file."""
        return AvSegment(part, self.fps) if self.has_av else CvSegment(part, self.fps)

    def is_ours(self, file: Path) -> bool:
        """Whether the comment tag names us; without PyAV, where nothing is deleted, whether it is such a video."""
        if not self.has_av:
            with file.open("rb") as stream:
                return stream.read(4) in BEGINS
        import av

        try:
            with av.open(str(file)) as container:
                return {key.lower(): text for key, text in container.metadata.items()}.get("comment") == COMMENT
        except (OSError, ValueError, av.FFmpegError):
            return False

    def recover(self, part: Path) -> bool:
        """Cut half a fragment off an mp4; the other forms are read as they are."""
        return part.suffix.lower() != ".mp4" or trim(part) > 0


class Clock:
    """Presentation times from capture times: they rise, and begin at 0."""

    def __init__(self, ticks: float, fps: float) -> None:
        self.ticks, self.fps = ticks, fps
        self.last_ns: int | None = None
        self.seconds = 0.0
        self.last = -1

    def at(self, stamp_ns: int) -> int:
        """Return when the picture that was taken at ``stamp_ns`` is shown, in ticks."""
        if self.last_ns is not None:
            passed = (stamp_ns - self.last_ns) / 1e9
            self.seconds += passed if 0 < passed <= PAUSE_S else 1 / self.fps
        self.last_ns = stamp_ns
        self.last = max(round(self.seconds * self.ticks), self.last + 1)
        return self.last


class AvSegment:
    """One file by PyAV."""

    def __init__(self, part: PartialFile, fps: float) -> None:
        self.part, self.fps = part, fps
        self.format = FORMATS[part.path.suffix.lower()]
        self.clock = Clock(fps if self.format == "avi" else TICKS, fps)  # AVI knows one rate only
        self.container: OutputContainer | None = None
        self.stream: VideoStream | None = None
        self.shape = (0, 0)
        self.waiting = 0
        self.key_s = -FRAGMENT_S

    @property
    def size(self) -> int:
        """Bytes that it has, and those that wait in it."""
        return self.part.size + self.waiting

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Draw and write one picture."""
        from av import VideoFrame
        from av.video.frame import PictureType

        assert result is not None, "a video shows results"
        image = draw(pair, result)
        if self.container is None:
            self.shape = image.shape[:2]
            self._open()
        frame = VideoFrame.from_ndarray(even(fitted(image, self.shape)), format="rgb24")
        assert self.stream is not None
        frame.pts, frame.time_base = self.clock.at(pair.stamp_ns), self.stream.codec_context.time_base
        if self.clock.seconds - self.key_s >= FRAGMENT_S:
            frame.pict_type, self.key_s = PictureType.I, self.clock.seconds
        self._mux(self.stream.encode(frame))

    def _open(self) -> None:
        import av

        self.container = av.open(self.part, "w", format=self.format, options=OPTIONS[self.format])
        self.container.metadata["comment"] = COMMENT
        known = [(name, options) for name, options in ENCODERS if name in av.codecs_available]
        if self.format == "avi":
            known = [each for each in known if each[0] != "libx264"]
        if not known:
            raise EdgemtlError(f"--video {self.part.path}: this PyAV has no encoder for it")
        name, options = known[0]
        rate = Fraction(self.fps).limit_denominator(1000)
        stream: Any = self.container.add_stream(name, rate=rate, options=options)
        stream.height, stream.width = (side + side % 2 for side in self.shape)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate if self.format == "avi" else Fraction(1, TICKS)
        context.max_b_frames, context.gop_size, context.thread_count = 0, 300, 1
        if not options:
            context.bit_rate = round(stream.height * stream.width * 4 * min(self.fps, 30) / 10)
        self.stream = stream

    def _mux(self, packets: list[Any]) -> None:
        assert self.container is not None
        with self._telling():
            for packet in packets:
                before = self.part.size
                self.container.mux(packet)
                self.waiting = packet.size + PACKET_BYTES + (self.waiting if self.part.size == before else 0)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Raise what the disk refused in place of what PyAV makes of it; the container is closed then."""
        import av

        assert self.container is not None
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            with contextlib.suppress(av.FFmpegError, OSError):  # left to itself, an old PyAV ends the program
                self.container.close()
            raise self.part.failed or EdgemtlError(f"video {self.part.path}: {error}") from error

    def flush(self) -> None:
        """Fragments are written as they end."""

    def finish(self) -> None:
        """Write the last fragment and the index."""
        assert self.container is not None and self.stream is not None
        self._mux(self.stream.encode(None))
        with self._telling():
            self.container.close()


class CvSegment:
    """One file by OpenCV, at one rate."""

    def __init__(self, part: PartialFile, fps: float) -> None:
        self.part, self.fps = part, fps
        self.writer: cv2.VideoWriter | None = None
        self.shape = (0, 0)

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return self.part.path.stat().st_size

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Draw and write one picture."""
        assert result is not None, "a video shows results"
        image = draw(pair, result)
        if self.writer is None:
            self.shape = image.shape[:2]
            height, width = even(image).shape[:2]
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # else a line a picture on a full disk
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.part.path), code, self.fps, (width, height))
            if not self.writer.isOpened():
                raise EdgemtlError(f"--video {self.part.path}: this OpenCV cannot write such a video")
        self.writer.write(cv2.cvtColor(even(fitted(image, self.shape)), cv2.COLOR_RGB2BGR))
        room = os.statvfs(self.part.path.parent)
        if room.f_bavail * room.f_frsize < SCARCE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        """OpenCV has no such call; FFmpeg in it writes as its buffer of 256 kB fills."""

    def finish(self) -> None:
        """Write the index."""
        assert self.writer is not None
        self.writer.release()


def fitted(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture in the video's size: a camera may change its own, or results come in the other's pixels."""
    if image.shape[:2] == shape:
        return image
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture whose sides are even, as 4:2:0 needs them; the last row or column is doubled."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
