"""What a camera says of its streams (SDP, RFC 8866), as far as video over RTP needs it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from .rtp import START


@dataclass
class Media:
    """A stream of a session: its kind, payload type, codec's name in capitals, clock rate, and attributes."""

    kind: str
    payload: int
    codec: str = ""
    clock_hz: int = 90_000
    control: str = ""
    format: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> bytes:
        """The units that describe the pictures (SPS, PPS, VPS), as a byte stream; empty where they come with them."""
        if self.codec == "H264":
            words = self.format.get("sprop-parameter-sets", "").split(",")
        else:
            words = [w for key in ("vps", "sps", "pps") for w in self.format.get(f"sprop-{key}", "").split(",")]
        units = []
        for word in words:
            try:
                unit = base64.b64decode(word + "=" * (-len(word) % 4))
            except (binascii.Error, ValueError):
                continue
            units += [START, unit] if unit else []
        return b"".join(units)


def parse(text: str) -> tuple[str, list[Media]]:
    """Return the control address of the session and its streams; what is not understood is passed over."""
    control, found = "", list[Media]()
    for line in text.splitlines():
        key, _, value = line.strip().partition("=")
        if key == "m":
            words = value.split()
            payload = number(words[3], 127, -1) if len(words) > 3 else -1
            found.append(Media(words[0] if words else "", payload, "JPEG" if payload == 26 else ""))
        elif key == "a":
            name, _, rest = value.partition(":")
            if name == "control" and not found:
                control = rest.strip()
            elif found:
                _attribute(found[-1], name, rest.strip())
    return control, found


def number(text: str, most: int, otherwise: int) -> int:
    """Return a number of at most ``most``, and something else where a server writes none."""
    plain = text.isascii() and text.isdigit() and len(text) < 12
    return int(text) if plain and int(text) <= most else otherwise


def _attribute(media: Media, name: str, rest: str) -> None:
    payload, _, value = rest.partition(" ")
    if name == "control":
        media.control = rest
    elif name == "rtpmap" and payload == str(media.payload):
        codec, _, clock = value.partition("/")
        media.codec = codec.strip().upper()
        media.clock_hz = number(clock.partition("/")[0].strip(), 1_000_000_000, 0) or media.clock_hz
    elif name == "fmtp" and payload == str(media.payload):
        for part in value.split(";"):
            key, mark, text = part.strip().partition("=")
            if mark:
                media.format[key.lower()] = text
