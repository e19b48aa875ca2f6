"""Video sink: annotated images, side by side, in files whose presentation times are the capture times."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..draw import draw
from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result
from .file_names import is_folder
from .file_sink import FileSink, log
from .mp4_boxes import truncate_to_fragments
from .partial_file import PartialFile
from .rotation import NO_LIMITS, RotationLimits

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
COMMENT = "edgemtl"
"""Comment tag of our files."""
TICKS = 10_000
"""Time base of presentation times: ticks per second."""
FRAGMENT_S = 1.0
"""Duration of a fragment: a kill loses no more of an MP4 or Matroska file."""
PAUSE_S = 3600.0
"""Longest pause between two images; a longer one means that the clock was set, and is skipped."""
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
"""Encoders in order of preference."""
SIGNATURES = (b"\x1aE\xdf\xa3", b"RIFF")
"""First four bytes of Matroska and AVI files."""
PACKET_BYTES = 40
"""Approximate size of an image's entry in the container's tables."""
SCARCE_BYTES = 4 << 20
"""Free space below which a disk counts as full: OpenCV does not report it."""


class Video(FileSink):
    """Video files: H.264 where PyAV has it, else MPEG-4, in fragments of a second, so that a kill loses only the last.

    ``fps`` is the nominal rate; presentation times are the capture times. Without PyAV OpenCV writes
    Matroska at that rate, the container that survives a kill there.
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

    def begin(self, partial: PartialFile) -> AvSegment | CvSegment:
        """Begin a segment."""
        return AvSegment(partial, self.fps) if self.has_av else CvSegment(partial, self.fps)

    def is_ours(self, file: Path) -> bool:
        """Whether the comment tag is ours; without PyAV, where nothing is deleted, whether the container is."""
        if not self.has_av:
            with file.open("rb") as stream:
                return stream.read(4) in SIGNATURES
        import av

        try:
            with av.open(str(file)) as container:
                return {key.lower(): text for key, text in container.metadata.items()}.get("comment") == COMMENT
        except (OSError, ValueError, av.FFmpegError):
            return False

    def recover(self, partial: Path) -> bool:
        """Cut an incomplete fragment off an MP4 file; other containers are readable as they are."""
        return partial.suffix.lower() != ".mp4" or truncate_to_fragments(partial) > 0


class PresentationClock:
    """Presentation times from capture times: strictly rising, from 0."""

    def __init__(self, ticks: float, fps: float) -> None:
        self.ticks, self.fps = ticks, fps
        self.last_ns: int | None = None
        self.seconds = 0.0
        self.last = -1

    def pts(self, stamp_ns: int) -> int:
        """Return the presentation time, in ticks, of the image taken at ``stamp_ns``."""
        if self.last_ns is not None:
            elapsed_s = (stamp_ns - self.last_ns) / 1e9
            self.seconds += elapsed_s if 0 < elapsed_s <= PAUSE_S else 1 / self.fps
        self.last_ns = stamp_ns
        self.last = max(round(self.seconds * self.ticks), self.last + 1)
        return self.last


class AvSegment:
    """One video file by PyAV."""

    def __init__(self, partial: PartialFile, fps: float) -> None:
        self.partial, self.fps = partial, fps
        self.format = FORMATS[partial.path.suffix.lower()]
        self.clock = PresentationClock(fps if self.format == "avi" else TICKS, fps)  # AVI has a constant rate
        self.container: OutputContainer | None = None
        self.stream: VideoStream | None = None
        self.shape = (0, 0)
        self.buffered_bytes = 0
        self.key_s = -FRAGMENT_S

    @property
    def size(self) -> int:
        """Bytes that the file has, and those that are buffered."""
        return self.partial.size + self.buffered_bytes

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Draw and write one image."""
        from av import VideoFrame
        from av.video.frame import PictureType

        assert result is not None, "a video shows results"
        image = draw(pair, result)
        if self.container is None:
            self.shape = image.shape[:2]
            self._open()
        frame = VideoFrame.from_ndarray(padded_to_even(resized(image, self.shape)), format="rgb24")
        assert self.stream is not None
        frame.pts, frame.time_base = self.clock.pts(pair.stamp_ns), self.stream.codec_context.time_base
        if self.clock.seconds - self.key_s >= FRAGMENT_S:
            frame.pict_type, self.key_s = PictureType.I, self.clock.seconds
        self._mux(self.stream.encode(frame))

    def _open(self) -> None:
        import av

        self.container = av.open(self.partial, "w", format=self.format, options=OPTIONS[self.format])
        self.container.metadata["comment"] = COMMENT
        encoders = [(name, options) for name, options in ENCODERS if name in av.codecs_available]
        if self.format == "avi":
            encoders = [encoder for encoder in encoders if encoder[0] != "libx264"]
        if not encoders:
            raise EdgemtlError(f"--video {self.partial.path}: this PyAV has no encoder for it")
        name, options = encoders[0]
        rate = Fraction(self.fps).limit_denominator(1000)
        stream = cast("VideoStream", self.container.add_stream(name, rate=rate, options=options))
        stream.height, stream.width = (side + side % 2 for side in self.shape)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate if self.format == "avi" else Fraction(1, TICKS)
        context.max_b_frames, context.gop_size, context.thread_count = 0, 300, 1
        if not options:
            context.bit_rate = round(stream.height * stream.width * 4 * min(self.fps, 30) / 10)
        self.stream = stream

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        assert self.container is not None
        with self._disk_errors():
            for packet in packets:
                before = self.partial.size
                self.container.mux(packet)
                self.buffered_bytes = (
                    packet.size + PACKET_BYTES + (self.buffered_bytes if self.partial.size == before else 0)
                )

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise the disk's own error instead of PyAV's, and close the container."""
        import av

        assert self.container is not None
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            with contextlib.suppress(av.FFmpegError, OSError):  # an old PyAV would end the program
                self.container.close()
            raise self.partial.error or EdgemtlError(f"video {self.partial.path}: {error}") from error

    def flush(self) -> None:
        """Do nothing: fragments are written as they end."""

    def finish(self) -> None:
        """Write the last fragment and the index."""
        assert self.container is not None and self.stream is not None
        self._mux(self.stream.encode(None))
        with self._disk_errors():
            self.container.close()


class CvSegment:
    """One video file by OpenCV, at a constant rate."""

    def __init__(self, partial: PartialFile, fps: float) -> None:
        self.partial, self.fps = partial, fps
        self.writer: cv2.VideoWriter | None = None
        self.shape = (0, 0)

    @property
    def size(self) -> int:
        """Bytes that the file has."""
        return self.partial.path.stat().st_size

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Draw and write one image."""
        assert result is not None, "a video shows results"
        image = draw(pair, result)
        if self.writer is None:
            self.shape = image.shape[:2]
            height, width = padded_to_even(image).shape[:2]
            # else it prints a line per image on a full disk
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.partial.path), code, self.fps, (width, height))
            if not self.writer.isOpened():
                raise EdgemtlError(f"--video {self.partial.path}: this OpenCV cannot write such a video")
        self.writer.write(cv2.cvtColor(padded_to_even(resized(image, self.shape)), cv2.COLOR_RGB2BGR))
        disk = os.statvfs(self.partial.path.parent)
        if disk.f_bavail * disk.f_frsize < SCARCE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        """Do nothing: OpenCV has no such call; its FFmpeg writes whenever its buffer of 256 kB is full."""

    def finish(self) -> None:
        """Write the index."""
        assert self.writer is not None
        self.writer.release()


def resized(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image in the video's size: a camera may change its own, or results refer to the other camera."""
    if image.shape[:2] == shape:
        return image
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def padded_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with even sides, as 4:2:0 chroma subsampling needs; the last row or column is repeated."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
