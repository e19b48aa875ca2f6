"""RTCP packets (RFC 3550, 6): sender reports, receiver reports and BYE."""

from __future__ import annotations

import struct
from dataclasses import dataclass

NTP_TO_UNIX_S = 2_208_988_800
SSRC = 0x65646765


@dataclass(frozen=True)
class SenderReport:
    """RTCP sender report: one time of the sender's clock as Unix time and as RTP time."""

    unix_ns: int
    rtp_time: int


def sender_report(data: bytes) -> SenderReport | None:
    """Return the sender report of a compound RTCP packet, None where it holds none."""
    if len(data) < 20 or data[0] >> 6 != 2 or data[1] != 200:
        return None
    seconds, fraction, rtp_time = struct.unpack_from(">III", data, 8)
    if not seconds:  # a sender without a clock
        return None
    return SenderReport((seconds - NTP_TO_UNIX_S) * 1_000_000_000 + (fraction * 1_000_000_000 >> 32), rtp_time)


def receiver_report() -> bytes:
    """Return a compound RTCP packet: an empty receiver report and a source description."""
    report = struct.pack(">BBHI", 0x80, 201, 1, SSRC)
    description = struct.pack(">BBHI", 0x81, 202, 3, SSRC) + b"\x01\x04edge\x00\x00"
    return report + description


def has_goodbye(data: bytes) -> bool:
    """Whether a compound RTCP packet holds a BYE, with which a sender ends its stream."""
    offset = 0
    while len(data) >= offset + 4 and data[offset] >> 6 == 2:
        if data[offset + 1] == 203:
            return True
        offset += 4 + 4 * int.from_bytes(data[offset + 2 : offset + 4], "big")
    return False
