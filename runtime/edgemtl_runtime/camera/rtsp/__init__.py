"""RTSP cameras with H.264 or H.265, each frame decoded as soon as its last RTP packet has arrived.

FFmpeg's RTSP reader outputs a frame when the next one begins: late by one interval, and with stamps that are late by
it. Here the marker bit of RTP ends a frame, and its stamp comes from its first packet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ...errors import CameraError, UsageError
from ...frame import UNKNOWN_NS, Frame, StampSource
from ...wall import WALL
from ..base import LiveCamera
from ..clock import FLOOR_NS, ArrivalClock, SourceClock
from ..libav import to_image
from ..options import Options, check_known, take_word
from ..redaction import redact
from .depacketizer import H264, H265, AccessUnit, Depacketizer
from .rtcp import SenderReport
from .rtp import JitterBuffer, parse
from .session import RtspError, Session

OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send the next packet, is lost."""
CONCEALED_S = 2.0
"""After a lost packet frames are skipped until the next key frame, or for so long where none comes."""
DEPACKETIZERS: dict[str, tuple[type[Depacketizer], str]] = {"H264": (H264, "h264"), "H265": (H265, "hevc")}
DECODER_DELAY = 64
"""Maximum number of frames in the decoder."""
EARLY_NS, LATE_NS = 20_000_000, 2_000_000_000
"""With ?clock=ntp, the range of plausible delays from capture to arrival."""
UNSUPPORTED_TRANSPORT = 461
FINAL_CODES = (0, 401, 403, 404)
"""Status codes that another reader would get as well."""


class RtspCamera(LiveCamera):
    """An RTSP camera, RTP interleaved in TCP or with ``?transport=udp``.

    Stamps are the RTP timestamps, mapped to the monotonic clock (`SourceClock`). With ``?clock=ntp`` they are mapped by
    the RTCP sender reports, which holds where the camera and this machine are synchronised by NTP or PTP: then the
    constant delay of the camera's encoder is known, too. With ``?clock=none`` they are the arrival times of the first
    packets, for cameras whose RTP timestamps count a nominal rate. Raises `NotSupported` for what FFmpeg has to read.
    """

    def __init__(self, name: str, url: str, options: Options) -> None:
        super().__init__(name, redact(url))
        check_known(options, url, ["transport", "clock"])
        clock = take_word(options, url, "clock", ("arrival", "ntp", "none"))
        self.use_reports, self.use_arrival = clock == "ntp", clock == "none"
        self.stamp_source: StampSource = "arrival" if self.use_arrival else "stream"
        udp = take_word(options, url, "transport", ("tcp", "udp")) == "udp"
        try:
            self.session = Session(self.label, url, udp, OPEN_S, READ_S, DEPACKETIZERS)
        except RtspError as error:
            if error.code == UNSUPPORTED_TRANSPORT:
                transport, other = ("UDP", "tcp") if udp else ("TCP", "udp")
                raise CameraError(
                    f"{self.label}: the camera does not send by {transport}; add ?transport={other}"
                ) from None
            if error.code in FINAL_CODES:
                raise
            raise NotSupported from error
        media = self.session.media
        if media.codec not in DEPACKETIZERS or media.format.get("sprop-max-don-diff", "0") != "0":
            self.session.close()
            raise NotSupported
        self._reset(self.session.first_sequence)

    def _reset(self, first_sequence: int = -1) -> None:
        import av

        depacketizer, codec = DEPACKETIZERS[self.session.media.codec]
        self.clock, self.depacketizer = SourceClock(), depacketizer(self.session.media.parameters)
        first = first_sequence if first_sequence >= 0 else None
        self.jitter_buffer = JitterBuffer(first=first) if self.session.udp else JitterBuffer(max_wait_ns=0)
        self.arrivals, self.arrived_ns = ArrivalClock(), dict[int, int]()
        """Arrival of the first packet by RTP time, of the frames in the decoder."""
        self.ssrc: int | None = None
        self.concealed_until_ns = 0
        self.codec: Any = av.CodecContext.create(codec, "r")
        self.codec.thread_type = "SLICE"  # threads by frames would hold some of them back

    def _frames(self) -> Iterator[Frame]:
        index, source = 0, self.stamp_source
        for data, arrived_ns in self.session.packets(lambda: self.closed):
            if isinstance(data, SenderReport):
                self._report(data, arrived_ns)
                continue
            for decoded in self._decoded(data, arrived_ns):
                stamp_ns, uncertainty_ns = self._stamp(decoded.pts)
                now_ns = time.monotonic_ns()
                image = to_image(decoded)
                yield Frame(image, stamp_ns, self.name, index, source, "", now_ns, uncertainty_ns=uncertainty_ns)
                index += 1

    def _release(self) -> None:
        self.session.close()

    def _stamp(self, ticks: int) -> tuple[int, int]:
        if self.use_arrival:
            arrived_ns = self.arrived_ns.get(ticks) or time.monotonic_ns()
            return arrived_ns, self.arrivals.uncertainty(arrived_ns)
        source_ns = self._nanoseconds(ticks)
        stamp_ns, uncertainty_ns = self.clock.stamp(source_ns)
        if not self.use_reports:
            return stamp_ns, uncertainty_ns
        reported_ns = self.clock.reported(source_ns, WALL.offset_ns())
        if reported_ns is None:  # reports come every few seconds; until then the delay is unknown
            return stamp_ns, UNKNOWN_NS
        if not -EARLY_NS <= stamp_ns - reported_ns <= LATE_NS:  # the two clocks are not synchronised
            return stamp_ns, abs(stamp_ns - reported_ns)
        return reported_ns, FLOOR_NS

    def _decoded(self, data: bytes, arrived_ns: int) -> Iterator[Any]:
        packet = parse(data, arrived_ns)
        if packet is None:
            return
        is_media = packet.payload_type == self.session.media.payload_type
        if not is_media and packet.ssrc != self.ssrc:
            return
        if self.ssrc not in (None, packet.ssrc):  # the sender has restarted
            self._reset()
        self.ssrc = packet.ssrc
        for due, lost in self.jitter_buffer.push(packet if is_media else replace(packet, payload=b"")):
            for coded in self.depacketizer.push(due, lost):
                if self._decodable(coded):
                    yield from self._decode(coded)

    def _decodable(self, coded: AccessUnit) -> bool:
        """Whether a frame is complete and none that it may refer to was lost."""
        if not coded.complete:
            self.concealed_until_ns = coded.first_ns + round(1e9 * CONCEALED_S)
            self.events.frame_dropped("lost packet")
            return False
        self.clock.observe(self._nanoseconds(coded.ticks), coded.first_ns)
        self.arrived_ns[coded.ticks] = coded.first_ns
        if len(self.arrived_ns) > DECODER_DELAY:
            del self.arrived_ns[next(iter(self.arrived_ns))]
        if coded.is_key:
            self.concealed_until_ns = 0
        if coded.first_ns < self.concealed_until_ns:
            self.events.frame_dropped("behind a lost packet")
            return False
        return True

    def _decode(self, coded: AccessUnit) -> Iterator[Any]:
        import av

        packet = av.Packet(coded.data)
        packet.pts, packet.time_base = coded.ticks, Fraction(1, self.session.media.clock_hz)
        try:
            frames = self.codec.decode(packet)
        except (av.error.FFmpegError, ValueError):
            self.events.frame_dropped("corrupt packet")
            return
        for frame in frames:
            if frame.is_corrupt or frame.pts is None:
                self.events.frame_dropped("corrupt frame")
            else:
                frame.time_base = packet.time_base
                yield frame

    def _report(self, report: SenderReport, arrived_ns: int) -> None:
        if (rtp_time := self.depacketizer.rtp_time) is not None:
            ahead = (report.rtp_time - rtp_time + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            self.clock.report(report.unix_ns, self._nanoseconds(self.depacketizer.ticks + ahead), arrived_ns)

    def _nanoseconds(self, ticks: int) -> int:
        return ticks * 1_000_000_000 // self.session.media.clock_hz


class NotSupported(UsageError):
    """The stream is one for FFmpeg: another codec, or a server outside the standard."""

    def __init__(self) -> None:
        super().__init__("not a stream of H.264 or H.265 over RTP")
