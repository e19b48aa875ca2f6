"""Network streams (RTSP, MJPEG over HTTP and what else FFmpeg opens), stamped by their presentation times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import CameraError
from ..frame import Frame, StampSource
from . import Options, check_known, redact, take_word
from .clock import SourceClock
from .libav import opened, picture, reason

ARRIVAL: StampSource = "arrival"
NO_TIMESTAMPS = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS."""
OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send the next packet, is lost."""


class AvStreamCamera:
    """A stream, read as it comes; packets that cannot be decoded are told to ``dropped`` and left out.

    A frame without a presentation time is stamped on arrival, as all of MJPEG are.
    """

    live = True

    def __init__(self, name: str, url: str, options: Options) -> None:
        self.name, self.what, self.closed = name, f"--{name} {redact(url)}", False
        self.dropped: Callable[[str], None] = lambda cause: None
        check_known(options, url, ["transport"])
        transport = take_word(options, url, "transport", ("tcp", "udp"))
        asked = {"rtsp_transport": transport} if url.startswith("rtsp") else {}
        # What FFmpeg looks at before the first frame costs that much time at every opening.
        quick = {"fflags": "nobuffer", "analyzeduration": "500000", "probesize": "1000000"}
        self.container = opened(self.what, url, (OPEN_S, READ_S), **asked, **quick)
        if (self.container.duration or 0) > 0 and "rtsp" not in self.container.format.name:
            seconds = self.container.duration / 1e6
            self.container.close()
            raise CameraError(f"{self.what}: is a recording of {seconds:.0f} s; download it and give the file")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "SLICE"  # threads by frames would hold some of them back
        if self.stream.codec_context.name == "mjpeg":  # which else fills a cut picture up from another one
            self.stream.codec_context.options = {"err_detect": "explode"}
        # Formats without times of their own: FFmpeg counts their frames at 25 a second, whatever the camera does.
        self.timed = not self.container.format.flags & NO_TIMESTAMPS

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the stream stops."""
        clock, index = SourceClock(), 0
        try:
            for packet in self._packets():
                for decoded in self._decoded(packet):
                    now_ns = time.monotonic_ns()
                    stamp_ns, source = now_ns, ARRIVAL
                    if decoded.pts is not None and self.timed:
                        stamp_ns = clock.stamp(round(decoded.pts * decoded.time_base * 1_000_000_000), now_ns)
                        source = "stream"
                    yield Frame(picture(decoded), stamp_ns, self.name, index, source, "", now_ns)
                    index += 1
        finally:
            self.container.close()
        if not self.closed:
            raise CameraError(f"{self.what}: ended after {index} frames")

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
