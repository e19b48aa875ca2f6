"""RTP packets to pictures: H.264 (RFC 6184) and H.265 (RFC 7798) as byte streams, cut at the marker bit.

A picture is given out when its last packet is there, as the marker bit tells it (RFC 3550, 5.1), and not when the next
picture begins, which a parser of the bare stream has to wait for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

START = b"\0\0\0\1"
"""What stands before each unit of a byte stream (H.264 and H.265, annex B)."""
LARGEST = 64 << 20
"""Bytes of a picture at the most."""
REORDER, PATIENCE_NS = 32, 50_000_000
"""So many packets, and for so long, wait for one that UDP brings late."""


@dataclass(frozen=True)
class RtpPacket:
    """One packet: ``time`` is in ticks of the stream's clock, ``arrived_ns`` of the monotonic one."""

    kind: int
    sequence: int
    time: int
    marker: bool
    source: int
    payload: bytes
    arrived_ns: int


@dataclass(frozen=True)
class CodedPicture:
    """A picture as it came: ``ticks`` never wraps, ``first_ns`` is when its first packet was here.

    ``whole`` tells whether no packet of it is missing, ``key`` whether it can be read without another picture.
    """

    data: bytes
    ticks: int
    first_ns: int
    whole: bool
    key: bool


def parse(data: bytes, arrived_ns: int) -> RtpPacket | None:
    """Return a packet of RTP version 2, None of anything else."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    _, second, sequence, time, source = struct.unpack_from(">BBHII", data)
    begin, end = 12 + 4 * (data[0] & 15), len(data)
    if data[0] & 0x10 and len(data) >= begin + 4:
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    if data[0] & 0x20:
        end -= data[-1]
    if begin > end:
        return None
    return RtpPacket(second & 127, sequence, time, second >= 0x80, source, data[begin:end], arrived_ns)


class Order:
    """Gives packets in the order of their numbers; what is missing when others wait too long is lost.

    Over TCP nothing comes late, so that ``patience_ns`` is 0 there. ``first`` is the number that the sender says it
    begins with: with it the first picture is whole though its packets come in another order.
    """

    def __init__(self, patience_ns: int = PATIENCE_NS, first: int | None = None) -> None:
        self.patience_ns = patience_ns
        self.next, self.begun = first, False
        self.waiting: dict[int, RtpPacket] = {}

    def push(self, packet: RtpPacket) -> Iterator[tuple[RtpPacket, int]]:
        """Yield packets that are due, and how many before each were lost."""
        if self.next is None or (not self.begun and (packet.sequence - self.next) & 0xFFFF >= 2 * REORDER):
            self.next = packet.sequence  # not near the number that was told
            self.waiting.clear()
        ahead = (packet.sequence - self.next) & 0xFFFF
        if ahead >= 0x8000:  # of the past: it came twice, or too late; a sender that begins anew is far off
            if ahead < 0xFFFF - 512:
                self.waiting.clear()
                self.next = (packet.sequence + 1) & 0xFFFF
                yield packet, REORDER
            return
        self.waiting[packet.sequence] = packet
        lost = 0
        while self.waiting:
            if (due := self.waiting.pop(self.next, None)) is not None:
                yield due, lost if self.begun else 0
                lost, self.begun = 0, True
            elif lost or len(self.waiting) >= REORDER or self._waited(packet.arrived_ns):
                lost += 1
            else:
                return
            self.next = (self.next + 1) & 0xFFFF

    def _waited(self, now_ns: int) -> bool:
        return now_ns - min(each.arrived_ns for each in self.waiting.values()) >= self.patience_ns


class Assembler:
    """Puts the packets of one stream together to pictures; ``parameters`` are units that stand before the first one.

    A sender whose marker bit does not mean what it should is found out by packets of a picture that was already given;
    from then on pictures end where the next one begins.
    """

    def __init__(self, parameters: bytes = b"") -> None:
        self.parts: list[bytes] = [parameters] if parameters else []
        self.ticks = self.first_ns = self.bytes = 0
        self.time: int | None = None
        self.given_time: int | None = None
        self.fragment: list[bytes] = []
        self.pictured = self.key = False
        self.whole = self.marked = True
        self.missing = 0
        self.endless: bool | None = None
        """Whether units in fragments do not tell their ends; None until one was seen."""

    def push(self, packet: RtpPacket, lost: int) -> Iterator[CodedPicture]:
        """Yield the pictures that are complete with a packet; ``lost`` tells how many before it are missing.

        A packet without a payload (padding, or of another kind in the same numbers) holds its number's place alone.
        """
        if not packet.payload:
            self.missing += lost
            return
        lost, self.missing = lost + self.missing, 0
        if not lost:
            self._complete(packet)
        if packet.time != self.time:
            if self.pictured or self.fragment:  # without its last packet, where that is marked
                self.whole = self.whole and not lost and not self.fragment
                lost = lost - 1 if self.marked else lost
                yield self._picture()
            self._begin(packet, lost > 0)
        elif lost:
            self.whole = False
            self.fragment = []
        self.bytes += len(packet.payload)
        if self.bytes > LARGEST:  # without an end
            self.parts, self.fragment, self.whole = [], [], False
        for unit in self.units(packet.payload):
            self._add(unit)
        if self.pictured and packet.time == self.given_time:
            self.marked = False
        if packet.marker and self.marked and self.endless:
            self._add(self._rest())
        if packet.marker and self.marked and self.pictured and not self.fragment:
            yield self._picture()

    def _complete(self, packet: RtpPacket) -> None:
        """End a unit whose last fragment did not say so, where what is next is not of it and nothing is missing."""
        if self.fragment and (packet.time != self.time or not self.goes_on(packet.payload)):
            self._add(self._rest())
            self.endless = self.endless is not False

    def _rest(self) -> bytes:
        unit, self.fragment = b"".join(self.fragment), []
        return unit

    def _add(self, unit: bytes) -> None:
        if unit:
            self.parts += (START, unit)
            self.pictured = self.pictured or self.is_picture(unit)
            self.key = self.key or self.is_key(unit)

    def _begin(self, packet: RtpPacket, lost: bool) -> None:
        step = 0 if self.time is None else (packet.time - self.time + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self.ticks, self.bytes = self.ticks + step, 0
        self.time, self.first_ns, self.whole, self.fragment = packet.time, packet.arrived_ns, not lost, []

    def _picture(self) -> CodedPicture:
        given = CodedPicture(b"".join(self.parts), self.ticks, self.first_ns, self.whole, self.key)
        self.parts, self.pictured, self.key, self.given_time, self.whole = [], False, False, self.time, True
        return given

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the units that are complete with a payload."""
        raise NotImplementedError

    @staticmethod
    def goes_on(payload: bytes) -> bool:
        """Whether a payload leaves the unit before it open: a further fragment, or what is passed over."""
        raise NotImplementedError

    @staticmethod
    def is_picture(unit: bytes) -> bool:
        """Whether a unit holds a part of a picture, not only what is needed to read one."""
        raise NotImplementedError

    @staticmethod
    def is_key(unit: bytes) -> bool:
        """Whether a unit is of a picture that needs no other."""
        raise NotImplementedError

    def _fragment(self, head: bytes, rest: bytes, begins: bool, ends: bool) -> Iterator[bytes]:
        if begins:
            self.fragment = [head]
        if not self.fragment:  # its begin is lost
            self.whole = False
            return
        self.fragment.append(rest)
        if ends:
            self.endless = False
            yield self._rest()


UNDEFINED = (0, 30, 31)
"""Kinds of H.264's payloads that are to be passed over (RFC 6184, 5.2)."""


class H264(Assembler):
    """RFC 6184: single units, STAP-A and FU-A, which are all of packetisation modes 0 and 1."""

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the units that are complete with a payload."""
        kind = payload[0] & 31 if payload else 0
        if 1 <= kind <= 23:
            yield payload
        elif kind == 24:
            yield from _aggregated(payload, 1)
        elif kind == 28 and len(payload) > 2:
            head = bytes([payload[0] & 0xE0 | payload[1] & 31])
            yield from self._fragment(head, payload[2:], bool(payload[1] & 0x80), bool(payload[1] & 0x40))
        elif kind not in UNDEFINED:
            self.whole = False

    @staticmethod
    def goes_on(payload: bytes) -> bool:
        """Whether a payload is a fragment (FU-A) that begins no unit, or undefined."""
        kind = payload[0] & 31
        return kind in UNDEFINED or (kind == 28 and len(payload) > 1 and not payload[1] & 0x80)

    @staticmethod
    def is_picture(unit: bytes) -> bool:
        """Whether a unit holds a slice."""
        return bool(unit) and 1 <= unit[0] & 31 <= 5

    @staticmethod
    def is_key(unit: bytes) -> bool:
        """Whether a unit is a slice of an IDR picture."""
        return bool(unit) and unit[0] & 31 == 5


class H265(Assembler):
    """RFC 7798: single units, aggregation packets and fragmentation units, without decoding order numbers."""

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the units that are complete with a payload."""
        kind = payload[0] >> 1 & 63 if len(payload) > 2 else 64
        if kind < 48:
            yield payload
        elif kind == 48:
            yield from _aggregated(payload, 2)
        elif kind == 49 and len(payload) > 3:
            head = bytes([payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]])
            yield from self._fragment(head, payload[3:], bool(payload[2] & 0x80), bool(payload[2] & 0x40))
        else:
            self.whole = False

    @staticmethod
    def goes_on(payload: bytes) -> bool:
        """Whether a payload is a fragment that begins no unit."""
        return len(payload) > 2 and payload[0] >> 1 & 63 == 49 and not payload[2] & 0x80

    @staticmethod
    def is_picture(unit: bytes) -> bool:
        """Whether a unit holds a slice segment."""
        return bool(unit) and unit[0] >> 1 & 63 < 32

    @staticmethod
    def is_key(unit: bytes) -> bool:
        """Whether a unit is a slice segment of a random access picture."""
        return bool(unit) and 16 <= unit[0] >> 1 & 63 <= 23


def _aggregated(payload: bytes, place: int) -> Iterator[bytes]:
    """Yield the units of an aggregation packet, each behind its length."""
    while place + 2 <= len(payload):
        length = int.from_bytes(payload[place : place + 2], "big")
        if length and place + 2 + length <= len(payload):
            yield payload[place + 2 : place + 2 + length]
        place += 2 + length
