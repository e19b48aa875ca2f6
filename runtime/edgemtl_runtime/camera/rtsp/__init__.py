"""RTSP cameras with H.264 or H.265, each picture decoded the moment its last packet is here.

FFmpeg's own reader, which others use, gives a picture when the next one begins: late by an interval, and with stamps
that are late by it. Here the marker bit of RTP ends a picture, and a stamp comes from its first packet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ...errors import CameraError, UsageError, flag
from ...frame import UNKNOWN_NS, Frame, StampSource
from ...wall import WALL
from .. import Options, check_known, redact, take_word
from ..clock import FLOOR_NS, ArrivalClock, SourceClock
from ..libav import picture
from .rtp import H264, H265, Assembler, CodedPicture, Order, parse
from .session import Report, RtspError, Session

OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send the next packet, is lost."""
SMEARED_S = 2.0
"""After a lost packet pictures are left out until the next key picture, or for so long where none comes."""
ASSEMBLERS: dict[str, tuple[type[Assembler], str]] = {"H264": (H264, "h264"), "H265": (H265, "hevc")}
REORDERED = 64
"""Pictures that may be in the decoder."""
EARLY_NS, LATE_NS = 20_000_000, 2_000_000_000
"""With ?clock=ntp, so much before its arrival a picture may have been taken."""
UNSUPPORTED_TRANSPORT = 461
TELLING = (0, 401, 403, 404)
"""Answers that another reader would get as well."""


class RtspCamera:
    """A camera that speaks RTSP; ``?transport=udp`` in place of TCP.

    Stamps are of the stream's own times (`SourceClock`). With ``?clock=ntp`` they are what the sender's reports make
    of them, which holds where the camera and this machine are set by one NTP or PTP: then the constant delay of the
    camera's encoder is known, too. With ``?clock=none`` they tell when the pictures' first packets came, for
    cameras that count a nominal rate whatever theirs is. Raises `NotOurs` for what `stream` reads by FFmpeg.
    """

    live = True
    owned_pictures = True

    def __init__(self, name: str, url: str, options: Options) -> None:
        self.name, self.what, self.closed = name, flag(name, redact(url)), False
        self.dropped: Callable[[str], None] = lambda cause: None
        self.begun = False
        check_known(options, url, ["transport", "clock"])
        clock = take_word(options, url, "clock", ("arrival", "ntp", "none"))
        self.by_reports, self.by_arrival = clock == "ntp", clock == "none"
        self.how: StampSource = "arrival" if self.by_arrival else "stream"
        udp = take_word(options, url, "transport", ("tcp", "udp")) == "udp"
        try:
            self.session = Session(self.what, url, udp, OPEN_S, READ_S, ASSEMBLERS)
        except RtspError as error:
            if error.code == UNSUPPORTED_TRANSPORT:
                way, other = ("UDP", "tcp") if udp else ("TCP", "udp")
                raise CameraError(f"{self.what}: the camera does not send by {way}; add ?transport={other}") from None
            if error.code in TELLING:
                raise
            raise NotOurs from error
        media = self.session.media
        if media.codec not in ASSEMBLERS or media.format.get("sprop-max-don-diff", "0") != "0":
            self.session.close()
            raise NotOurs
        self._begin(self.session.first)

    def _begin(self, first: int = -1) -> None:
        import av

        kind, codec = ASSEMBLERS[self.session.media.codec]
        self.clock, self.pictures = SourceClock(), kind(self.session.media.parameters)
        self.order = Order(first=first if first >= 0 else None) if self.session.udp else Order(patience_ns=0)
        self.arrivals, self.came_ns = ArrivalClock(), dict[int, int]()
        self.source: int | None = None
        self.smeared_until_ns = 0
        self.codec: Any = av.CodecContext.create(codec, "r")
        self.codec.thread_type = "SLICE"  # threads by frames would hold some of them back

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the stream stops."""
        index, how, self.begun = 0, self.how, True
        try:
            for data, came_ns in self.session.packets(lambda: self.closed):
                if isinstance(data, Report):
                    self._report(data, came_ns)
                    continue
                for decoded in self._decoded(data, came_ns):
                    stamp_ns, unsure_ns = self._stamp(decoded.pts)
                    now_ns = time.monotonic_ns()
                    image = picture(decoded)
                    yield Frame(image, stamp_ns, self.name, index, how, "", now_ns, uncertainty_ns=unsure_ns)
                    index += 1
        finally:
            self.session.close()

    def _stamp(self, ticks: int) -> tuple[int, int]:
        if self.by_arrival:
            came_ns = self.came_ns.get(ticks) or time.monotonic_ns()
            return came_ns, self.arrivals.uncertainty(came_ns)
        source_ns = self._nanoseconds(ticks)
        stamp_ns, unsure_ns = self.clock.stamp(source_ns)
        if not self.by_reports:
            return stamp_ns, unsure_ns
        told_ns = self.clock.reported(source_ns, WALL.offset_ns())
        if told_ns is None:  # reports come every few seconds; until then the delay is unknown
            return stamp_ns, UNKNOWN_NS
        if not -EARLY_NS <= stamp_ns - told_ns <= LATE_NS:  # the two clocks do not tell one time
            return stamp_ns, abs(stamp_ns - told_ns)
        return told_ns, FLOOR_NS

    def _decoded(self, data: bytes, came_ns: int) -> Iterator[Any]:
        packet = parse(data, came_ns)
        if packet is None:
            return
        ours = packet.kind == self.session.media.payload
        if not ours and packet.source != self.source:
            return
        if self.source not in (None, packet.source):  # the sender has begun anew
            self._begin()
        self.source = packet.source
        for due, lost in self.order.push(packet if ours else replace(packet, payload=b"")):
            for coded in self.pictures.push(due, lost):
                if self._sound(coded):
                    yield from self._decode(coded)

    def _sound(self, coded: CodedPicture) -> bool:
        """Whether a picture is whole and none that it may need was lost."""
        if not coded.whole:
            self.smeared_until_ns = coded.first_ns + round(1e9 * SMEARED_S)
            self.dropped("lost packet")
            return False
        self.clock.observe(self._nanoseconds(coded.ticks), coded.first_ns)
        self.came_ns[coded.ticks] = coded.first_ns
        if len(self.came_ns) > REORDERED:
            del self.came_ns[next(iter(self.came_ns))]
        if coded.key:
            self.smeared_until_ns = 0
        if coded.first_ns < self.smeared_until_ns:
            self.dropped("behind a lost packet")
            return False
        return True

    def _decode(self, coded: CodedPicture) -> Iterator[Any]:
        import av

        packet = av.Packet(coded.data)
        packet.pts, packet.time_base = coded.ticks, Fraction(1, self.session.media.clock_hz)
        try:
            frames = self.codec.decode(packet)
        except (av.error.FFmpegError, ValueError):
            self.dropped("corrupt packet")
            return
        for frame in frames:
            if frame.is_corrupt or frame.pts is None:
                self.dropped("corrupt frame")
            else:
                frame.time_base = packet.time_base
                yield frame

    def _report(self, report: Report, came_ns: int) -> None:
        if (time_ := self.pictures.time) is not None:
            ahead = (report.time - time_ + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            self.clock.report(report.unix_ns, self._nanoseconds(self.pictures.ticks + ahead), came_ns)

    def _nanoseconds(self, ticks: int) -> int:
        return ticks * 1_000_000_000 // self.session.media.clock_hz

    def close(self) -> None:
        """Stop reading; the thread that reads closes the stream, where there is one."""
        self.closed = True
        if not self.begun:
            self.session.close()


class NotOurs(UsageError):
    """The stream is one that FFmpeg reads better: another codec, or a server with ways of its own."""

    def __init__(self) -> None:
        super().__init__("not a stream of H.264 or H.265 over RTP")


__all__ = ["CameraError", "NotOurs", "RtspCamera"]
