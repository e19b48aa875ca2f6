"""Depacketizers: RTP packets to coded frames, H.264 (RFC 6184) and H.265 (RFC 7798) as byte streams (annex B).

A frame is complete with its last packet, which the marker bit indicates (RFC 3550, 5.1), and not when the next one
begins, which a parser of the byte stream has to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rtp import RtpPacket

START = b"\0\0\0\1"
"""Start code before each NAL unit of a byte stream (H.264 and H.265, annex B)."""
MAX_BYTES = 64 << 20
"""Size limit of one frame."""


@dataclass(frozen=True)
class AccessUnit:
    """A coded frame: ``ticks`` is its RTP time without wrap-around, ``first_ns`` the arrival of its first packet.

    ``complete``: no packet of it is missing; ``is_key``: it is decoded without another frame.
    """

    data: bytes
    ticks: int
    first_ns: int
    complete: bool
    is_key: bool


class Depacketizer:
    """Assembles coded frames from the packets of one stream; ``parameters`` are parameter sets for the first one.

    A sender with a wrong marker bit is recognised by further packets of a frame that was already yielded; from then
    on frames end where the next one begins.
    """

    def __init__(self, parameters: bytes = b"") -> None:
        self.nal_units: list[bytes] = [parameters] if parameters else []
        self.ticks = self.first_ns = self.bytes = 0
        self.rtp_time: int | None = None
        self.yielded_time: int | None = None
        self.fragments: list[bytes] = []
        self.has_slice = self.is_key = False
        self.complete = self.marker_valid = True
        self.missing = 0
        self.end_bit_missing: bool | None = None
        """Whether fragmented units lack their end bit; None until one has been received."""

    def push(self, packet: RtpPacket, lost: int) -> Iterator[AccessUnit]:
        """Yield the frames that a packet completes; ``lost`` is the number of packets missing before it.

        A packet without a payload (padding, or another payload type in the same sequence) only continues the sequence.
        """
        if not packet.payload:
            self.missing += lost
            return
        lost, self.missing = lost + self.missing, 0
        if not lost:
            self._end_fragments(packet)
        if packet.rtp_time != self.rtp_time:
            if self.has_slice or self.fragments:  # its last packet, where that is marked, is missing
                self.complete = self.complete and not lost and not self.fragments
                lost = lost - 1 if self.marker_valid else lost
                yield self._access_unit()
            self._begin(packet, lost > 0)
        elif lost:
            self.complete = False
            self.fragments = []
        self.bytes += len(packet.payload)
        if self.bytes > MAX_BYTES:  # without an end
            self.nal_units, self.fragments, self.complete = [], [], False
        for unit in self.units(packet.payload):
            self._add(unit)
        if self.has_slice and packet.rtp_time == self.yielded_time:
            self.marker_valid = False
        if packet.marker and self.marker_valid and self.end_bit_missing:
            self._add(self._joined())
        if packet.marker and self.marker_valid and self.has_slice and not self.fragments:
            yield self._access_unit()

    def _end_fragments(self, packet: RtpPacket) -> None:
        """End a unit whose last fragment has no end bit, where the next packet is not of it and nothing is missing."""
        if self.fragments and (packet.rtp_time != self.rtp_time or not self.continues(packet.payload)):
            self._add(self._joined())
            self.end_bit_missing = self.end_bit_missing is not False

    def _joined(self) -> bytes:
        unit, self.fragments = b"".join(self.fragments), []
        return unit

    def _add(self, unit: bytes) -> None:
        if unit:
            self.nal_units += (START, unit)
            self.has_slice = self.has_slice or self.is_slice(unit)
            self.is_key = self.is_key or self.is_key_slice(unit)

    def _begin(self, packet: RtpPacket, lost: bool) -> None:
        step = 0 if self.rtp_time is None else (packet.rtp_time - self.rtp_time + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self.ticks, self.bytes = self.ticks + step, 0
        self.rtp_time, self.first_ns, self.complete, self.fragments = packet.rtp_time, packet.arrived_ns, not lost, []

    def _access_unit(self) -> AccessUnit:
        unit = AccessUnit(b"".join(self.nal_units), self.ticks, self.first_ns, self.complete, self.is_key)
        self.nal_units, self.has_slice, self.is_key, self.complete = [], False, False, True
        self.yielded_time = self.rtp_time
        return unit

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the NAL units that a payload completes."""
        raise NotImplementedError

    @staticmethod
    def continues(payload: bytes) -> bool:
        """Whether a payload leaves the unit before it open: a further fragment, or one to be ignored."""
        raise NotImplementedError

    @staticmethod
    def is_slice(unit: bytes) -> bool:
        """Whether a unit is a slice, not a parameter set or message."""
        raise NotImplementedError

    @staticmethod
    def is_key_slice(unit: bytes) -> bool:
        """Whether a unit is a slice of a key frame."""
        raise NotImplementedError

    def _add_fragment(self, head: bytes, rest: bytes, begins: bool, ends: bool) -> Iterator[bytes]:
        if begins:
            self.fragments = [head]
        if not self.fragments:  # its first fragment is lost
            self.complete = False
            return
        self.fragments.append(rest)
        if ends:
            self.end_bit_missing = False
            yield self._joined()


UNDEFINED = (0, 30, 31)
"""NAL unit types of H.264 that are to be ignored (RFC 6184, 5.2)."""


class H264(Depacketizer):
    """H.264 payloads (RFC 6184): single NAL units, STAP-A and FU-A, which are all of packetisation modes 0 and 1."""

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the NAL units that a payload completes."""
        nal_type = payload[0] & 31 if payload else 0
        if 1 <= nal_type <= 23:
            yield payload
        elif nal_type == 24:
            yield from _aggregated(payload, 1)
        elif nal_type == 28 and len(payload) > 2:
            head = bytes([payload[0] & 0xE0 | payload[1] & 31])
            yield from self._add_fragment(head, payload[2:], bool(payload[1] & 0x80), bool(payload[1] & 0x40))
        elif nal_type not in UNDEFINED:
            self.complete = False

    @staticmethod
    def continues(payload: bytes) -> bool:
        """Whether a payload is a fragment (FU-A) that begins no unit, or undefined."""
        nal_type = payload[0] & 31
        return nal_type in UNDEFINED or (nal_type == 28 and len(payload) > 1 and not payload[1] & 0x80)

    @staticmethod
    def is_slice(unit: bytes) -> bool:
        """Whether a unit holds a slice."""
        return bool(unit) and 1 <= unit[0] & 31 <= 5

    @staticmethod
    def is_key_slice(unit: bytes) -> bool:
        """Whether a unit is a slice of an IDR frame."""
        return bool(unit) and unit[0] & 31 == 5


class H265(Depacketizer):
    """H.265 payloads (RFC 7798): single NAL units, aggregation packets and fragmentation units, without DON fields."""

    def units(self, payload: bytes) -> Iterator[bytes]:
        """Yield the NAL units that a payload completes."""
        nal_type = payload[0] >> 1 & 63 if len(payload) > 2 else 64
        if nal_type < 48:
            yield payload
        elif nal_type == 48:
            yield from _aggregated(payload, 2)
        elif nal_type == 49 and len(payload) > 3:
            head = bytes([payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]])
            yield from self._add_fragment(head, payload[3:], bool(payload[2] & 0x80), bool(payload[2] & 0x40))
        else:
            self.complete = False

    @staticmethod
    def continues(payload: bytes) -> bool:
        """Whether a payload is a fragment that begins no unit."""
        return len(payload) > 2 and payload[0] >> 1 & 63 == 49 and not payload[2] & 0x80

    @staticmethod
    def is_slice(unit: bytes) -> bool:
        """Whether a unit holds a slice segment."""
        return bool(unit) and unit[0] >> 1 & 63 < 32

    @staticmethod
    def is_key_slice(unit: bytes) -> bool:
        """Whether a unit is a slice segment of a random access frame."""
        return bool(unit) and 16 <= unit[0] >> 1 & 63 <= 23


def _aggregated(payload: bytes, offset: int) -> Iterator[bytes]:
    """Yield the units of an aggregation packet, each after its length."""
    while offset + 2 <= len(payload):
        length = int.from_bytes(payload[offset : offset + 2], "big")
        if length and offset + 2 + length <= len(payload):
            yield payload[offset + 2 : offset + 2 + length]
        offset += 2 + length
