"""Network streams: RTSP and MJPEG by the readers of this package, all others by FFmpeg."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ..errors import CameraError, UsageError
from ..frame import UNKNOWN_NS, Frame
from .address import encoded
from .base import LiveCamera
from .clock import ArrivalClock, SourceClock
from .libav import has_timestamps, open_container, reason, to_image
from .options import Options, check_known, take_word
from .redaction import redact

OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send the next packet, is lost."""
DELAYED_FORMATS = ("rtsp", "mpegts", "mpeg", "h264", "hevc")
"""Formats of which FFmpeg outputs a frame only when the next one begins."""


def open_stream(name: str, url: str, options: Options) -> LiveCamera:
    """Open a stream with the reader of the lowest latency and the best stamps."""
    if url.startswith("rtsp://"):
        from .rtsp import NotSupported, RtspCamera

        try:
            return RtspCamera(name, url, options)
        except NotSupported:
            return AvStreamCamera(name, url, options)
    if url.startswith("http://"):
        from .mjpeg import MjpegCamera, NotMultipart, SingleImage

        try:
            return MjpegCamera(name, url, options)
        except NotMultipart:
            return AvStreamCamera(name, url, options)
        except SingleImage:
            from .snapshot import SnapshotCamera

            return SnapshotCamera(name, url, options)
    return AvStreamCamera(name, url, options)


class AvStreamCamera(LiveCamera):
    """A stream read by FFmpeg; packets that cannot be decoded are reported as dropped.

    A frame without a presentation timestamp is stamped on arrival. Where FFmpeg outputs a frame only when the next one
    begins, it is taken to have arrived when the one before it was output.
    """

    def __init__(self, name: str, url: str, options: Options) -> None:
        super().__init__(name, redact(url))
        check_known(options, url, ["transport"])
        transport = take_word(options, url, "transport", ("tcp", "udp"))
        rtsp_options = {"rtsp_transport": transport} if url.startswith("rtsp") else {}
        # What FFmpeg probes before the first frame costs that much time at every opening.
        probe = {"analyzeduration": "500000", "probesize": "1000000"}
        self.container = open_container(self.label, encoded(url), (OPEN_S, READ_S), **rtsp_options, **probe)
        if (self.container.duration or 0) > 0 and "rtsp" not in self.container.format.name:
            seconds = self.container.duration / 1e6
            self.container.close()
            raise CameraError(f"{self.label}: is a recording of {seconds:.0f} s; download it and give the file")
        if self.container.format.name.endswith("_pipe"):
            self.container.close()
            raise UsageError(f"{self.label}: is a single image; give it as http://, or the address of the video stream")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "SLICE"  # threads by frames would hold some of them back
        codec = self.stream.codec_context.name
        if codec == "mjpeg":  # by default it completes a truncated image from another one
            self.stream.codec_context.options = {"err_detect": "explode"}
        self.timed = has_timestamps(self.container)
        names = self.container.format.name.split(",")
        self.delayed = codec != "mjpeg" and any(name in DELAYED_FORMATS for name in names)

    def _frames(self) -> Iterator[Frame]:
        clock, arrivals, index = SourceClock(), ArrivalClock(), 0
        previous_ns: int | None = None
        for packet in self._packets():
            output_ns = time.monotonic_ns()
            arrived_ns, previous_ns = previous_ns if self.delayed else output_ns, output_ns
            if packet.pts is not None and arrived_ns is not None:
                clock.observe(round(packet.pts * packet.time_base * 1_000_000_000), arrived_ns)
            for decoded in self._decoded(packet):
                yield self._frame(decoded, output_ns, clock, arrivals, index)
                index += 1
        if not self.closed:
            raise CameraError(f"{self.label}: ended after {index} frames")

    def _release(self) -> None:
        self.container.close()

    def _frame(self, decoded: Any, output_ns: int, clock: SourceClock, arrivals: ArrivalClock, index: int) -> Frame:
        now_ns, image = time.monotonic_ns(), to_image(decoded)
        if decoded.pts is None or not self.timed or clock.base_ns is None:
            uncertainty_ns = arrivals.uncertainty(output_ns) if not self.delayed else UNKNOWN_NS
            return Frame(image, output_ns, self.name, index, "arrival", "", now_ns, uncertainty_ns=uncertainty_ns)
        stamp_ns, uncertainty_ns = clock.stamp(round(decoded.pts * decoded.time_base * 1_000_000_000))
        return Frame(image, stamp_ns, self.name, index, "stream", "", now_ns, uncertainty_ns=uncertainty_ns)

    def _packets(self) -> Iterator[Any]:
        import av

        try:
            for packet in self.container.demux(self.stream):
                if self.closed:
                    return
                yield packet
        except (av.error.FFmpegError, OSError) as error:
            if not self.closed:
                raise CameraError(f"{self.label}: stopped ({reason(error)})") from None

    def _decoded(self, packet: Any) -> list[Any]:
        import av

        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            self.events.frame_dropped("corrupt packet")
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        for _ in range(len(frames) - len(whole)):
            self.events.frame_dropped("corrupt frame")
        return whole
