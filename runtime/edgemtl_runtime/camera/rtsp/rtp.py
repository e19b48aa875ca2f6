"""RTP packets (RFC 3550) and the jitter buffer that restores their order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_WAITING, MAX_WAIT_NS = 32, 50_000_000
"""At most so many packets wait, and for so long, for one that UDP delivers late."""


@dataclass(frozen=True)
class RtpPacket:
    """One RTP packet: ``rtp_time`` is in ticks of the media clock, ``arrived_ns`` on the monotonic clock."""

    payload_type: int
    sequence: int
    rtp_time: int
    marker: bool
    ssrc: int
    payload: bytes
    arrived_ns: int


def parse(data: bytes, arrived_ns: int) -> RtpPacket | None:
    """Return the RTP packet (version 2) that a datagram holds, None of anything else."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    _, second, sequence, rtp_time, ssrc = struct.unpack_from(">BBHII", data)
    begin, end = 12 + 4 * (data[0] & 15), len(data)
    if data[0] & 0x10 and len(data) >= begin + 4:
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    if data[0] & 0x20:
        end -= data[-1]
    if begin > end:
        return None
    return RtpPacket(second & 127, sequence, rtp_time, second >= 0x80, ssrc, data[begin:end], arrived_ns)


class JitterBuffer:
    """Jitter buffer: packets in the order of their sequence numbers; what is missing when others wait too long is lost.

    Over TCP nothing arrives late, so that ``max_wait_ns`` is 0 there. ``first`` is the sequence number that the sender
    announced: with it the first frame is complete though its packets arrive in another order.
    """

    def __init__(self, max_wait_ns: int = MAX_WAIT_NS, first: int | None = None) -> None:
        self.max_wait_ns = max_wait_ns
        self.next, self.started = first, False
        self.waiting: dict[int, RtpPacket] = {}

    def push(self, packet: RtpPacket) -> Iterator[tuple[RtpPacket, int]]:
        """Yield packets that are due, and how many were lost before each."""
        if self.next is None or (not self.started and (packet.sequence - self.next) & 0xFFFF >= 2 * MAX_WAITING):
            self.next = packet.sequence  # not near the announced number
            self.waiting.clear()
        ahead = (packet.sequence - self.next) & 0xFFFF
        if ahead >= 0x8000:  # of the past: duplicated or too late; a sender that restarts is far off
            if ahead < 0xFFFF - 512:
                self.waiting.clear()
                self.next = (packet.sequence + 1) & 0xFFFF
                yield packet, MAX_WAITING
            return
        self.waiting[packet.sequence] = packet
        lost = 0
        while self.waiting:
            if (due := self.waiting.pop(self.next, None)) is not None:
                yield due, lost if self.started else 0
                lost, self.started = 0, True
            elif lost or len(self.waiting) >= MAX_WAITING or self._timed_out(packet.arrived_ns):
                lost += 1
            else:
                return
            self.next = (self.next + 1) & 0xFFFF

    def _timed_out(self, now_ns: int) -> bool:
        return now_ns - min(packet.arrived_ns for packet in self.waiting.values()) >= self.max_wait_ns
