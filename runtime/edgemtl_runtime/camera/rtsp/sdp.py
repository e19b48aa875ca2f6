"""Session descriptions (SDP, RFC 8866), as far as video over RTP needs them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from .depacketizer import START


@dataclass
class Media:
    """A media description: media type, payload type, codec name in capitals, clock rate and format parameters."""

    media: str
    payload_type: int
    codec: str = ""
    clock_hz: int = 90_000
    control: str = ""
    format: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> bytes:
        """Parameter sets (VPS, SPS, PPS) as a byte stream; empty where they are sent in band."""
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
    """Return the control URL of a session and its media; unknown lines are ignored."""
    control, media = "", list[Media]()
    for line in text.splitlines():
        key, _, value = line.strip().partition("=")
        if key == "m":
            words = value.split()
            payload = number(words[3], 127, -1) if len(words) > 3 else -1
            media.append(Media(words[0] if words else "", payload, "JPEG" if payload == 26 else ""))
        elif key == "a":
            name, _, rest = value.partition(":")
            if name == "control" and not media:
                control = rest.strip()
            elif media:
                _attribute(media[-1], name, rest.strip())
    return control, media


def number(text: str, most: int, default: int) -> int:
    """Return a number of at most ``most``, a default where the text is none."""
    plain = text.isascii() and text.isdigit() and len(text) < 12
    return int(text) if plain and int(text) <= most else default


def _attribute(media: Media, name: str, rest: str) -> None:
    payload, _, value = rest.partition(" ")
    if name == "control":
        media.control = rest
    elif name == "rtpmap" and payload == str(media.payload_type):
        codec, _, clock = value.partition("/")
        media.codec = codec.strip().upper()
        media.clock_hz = number(clock.partition("/")[0].strip(), 1_000_000_000, 0) or media.clock_hz
    elif name == "fmtp" and payload == str(media.payload_type):
        for part in value.split(";"):
            key, mark, text = part.strip().partition("=")
            if mark:
                media.format[key.lower()] = text
