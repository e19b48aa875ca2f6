"""Network streams: RTSP and MJPEG by readers of our own, whatever else there is by FFmpeg."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import CameraError, flag
from ..frame import UNKNOWN_NS, Frame
from . import Camera, Options, check_known, redact, take_word
from .clock import ArrivalClock, SourceClock
from .libav import opened, picture, reason

NO_TIMESTAMPS = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS."""
OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send the next packet, is lost."""
AHEAD = ("rtsp", "mpegts", "mpeg", "h264", "hevc")
"""Formats whose pictures FFmpeg gives when the next one begins."""


def open_stream(name: str, url: str, options: Options) -> Camera:
    """Open a stream with the reader that gives its pictures soonest, and stamps them best."""
    if url.startswith("rtsp://"):
        from .rtsp import NotOurs, RtspCamera

        try:
            return RtspCamera(name, url, options)
        except NotOurs:
            return AvStreamCamera(name, url, options)
    if url.startswith("http://"):
        from .mjpeg import MjpegCamera, NotMultipart

        try:
            return MjpegCamera(name, url, options)
        except NotMultipart:
            return AvStreamCamera(name, url, options)
    return AvStreamCamera(name, url, options)


class AvStreamCamera:
    """A stream that FFmpeg reads; packets that cannot be decoded are told to ``dropped`` and left out.

    A frame without a presentation time is stamped on arrival. Where FFmpeg gives a picture only when the next one
    begins, it is taken to have come when the one before it was given.
    """

    live = True
    owned_pictures = True

    def __init__(self, name: str, url: str, options: Options) -> None:
        self.name, self.what, self.closed = name, flag(name, redact(url)), False
        self.dropped: Callable[[str], None] = lambda cause: None
        check_known(options, url, ["transport"])
        transport = take_word(options, url, "transport", ("tcp", "udp"))
        asked = {"rtsp_transport": transport} if url.startswith("rtsp") else {}
        # What FFmpeg looks at before the first frame costs that much time at every opening.
        quick = {"analyzeduration": "500000", "probesize": "1000000"}
        self.container = opened(self.what, url, (OPEN_S, READ_S), **asked, **quick)
        if (self.container.duration or 0) > 0 and "rtsp" not in self.container.format.name:
            seconds = self.container.duration / 1e6
            self.container.close()
            raise CameraError(f"{self.what}: is a recording of {seconds:.0f} s; download it and give the file")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "SLICE"  # threads by frames would hold some of them back
        codec = self.stream.codec_context.name
        if codec == "mjpeg":  # which else fills a cut picture up from another one
            self.stream.codec_context.options = {"err_detect": "explode"}
        # Formats without times of their own: FFmpeg counts their frames at 25 a second, whatever the camera does.
        self.timed = not self.container.format.flags & NO_TIMESTAMPS
        names = self.container.format.name.split(",")
        self.ahead = codec != "mjpeg" and any(name in AHEAD for name in names)

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the stream stops."""
        clock, arrivals, index = SourceClock(), ArrivalClock(), 0
        before_ns: int | None = None
        try:
            for packet in self._packets():
                given_ns = time.monotonic_ns()
                came_ns, before_ns = before_ns if self.ahead else given_ns, given_ns
                if packet.pts is not None and came_ns is not None:
                    clock.observe(round(packet.pts * packet.time_base * 1_000_000_000), came_ns)
                for decoded in self._decoded(packet):
                    yield self._frame(decoded, given_ns, clock, arrivals, index)
                    index += 1
        finally:
            self.container.close()
        if not self.closed:
            raise CameraError(f"{self.what}: ended after {index} frames")

    def _frame(self, decoded: Any, given_ns: int, clock: SourceClock, arrivals: ArrivalClock, index: int) -> Frame:
        now_ns, image = time.monotonic_ns(), picture(decoded)
        if decoded.pts is None or not self.timed or clock.base_ns is None:
            unsure_ns = arrivals.uncertainty(given_ns) if not self.ahead else UNKNOWN_NS
            return Frame(image, given_ns, self.name, index, "arrival", "", now_ns, uncertainty_ns=unsure_ns)
        stamp_ns, unsure_ns = clock.stamp(round(decoded.pts * decoded.time_base * 1_000_000_000))
        return Frame(image, stamp_ns, self.name, index, "stream", "", now_ns, uncertainty_ns=unsure_ns)

    def _packets(self) -> Iterator[Any]:
        import av

        try:
            for packet in self.container.demux(self.stream):
                if self.closed:
                    return
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            if not self.closed:
                raise CameraError(f"{self.what}: stopped ({reason(error)})") from None

    def _decoded(self, packet: Any) -> list[Any]:
        import av

        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            self.dropped("corrupt packet")
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        for _ in range(len(frames) - len(whole)):
            self.dropped("corrupt frame")
        return whole

    def close(self) -> None:
        """Stop reading at the next packet or after `READ_S`; the thread that reads closes the stream."""
        self.closed = True
