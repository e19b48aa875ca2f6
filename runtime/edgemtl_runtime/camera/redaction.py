"""Redaction: URIs, errors and messages without the user names and passwords of cameras."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from ..errors import CameraError, EdgemtlError

NETWORK = "rtsps?|rtspt|rtspu|https?|rtmps?|rtmpt|rtp|srtp|srt|udp|tcp|tls|mmsh?|ftps?|sftp|wss?"
LOCAL = "file|mcap|bag|v4l2|csi|zenoh|ros2"
URI_PARTS = re.compile(rf"((?:(?:{LOCAL}):)*)((?:{NETWORK}):|[a-z][a-z0-9+.-]*:(?=//))?(/*)(.*)", re.I | re.S)
ENCODED_AT = re.compile("%40")
SECRET_NAME = re.compile(r"pass|pw|psw|pas$|token|key|secret|auth|user|login|sig|cred|pin", re.I)
"""Names of options whose values are secret."""
PUBLIC_OPTIONS = (
    "rotate",
    "offset_ms",
    "repeats",
    "transport",
    "fps",
    "width",
    "height",
    "format",
    "stamps",
    "speed",
    "frames",
    "channels",
    "clock",
    "pair",
    "endpoint",
    "domain",
    "stream",
    "cti",
)
"""Options of this package, whose values are no secret."""
MIN_LENGTH = 3
"""Letters of the shortest secret that is searched for in a text: any shorter one is part of half of all words."""
HIDDEN = "***"


def redact(uri: object) -> str:
    """Return a URI without user name and password, wherever in it cameras want them.

    Of a URL the host and the path's last part stay, of a pipeline only that it is one. What precedes the last "@" is
    removed in any form: a password may hold any character.
    """
    text = str(uri)
    if text.startswith("gst:"):
        return "gst:"
    parts = _Parts(text)
    if parts.secret is None and not parts.is_url:
        address, mark, query = text.partition("?")
        shown = _public_query(query)
        return f"{address}{mark and shown and '?'}{shown}"
    if parts.is_ambiguous:
        return f"{parts.scheme}..."
    host, *path = re.split(r"[?#]", parts.rest)[0].split("/")
    last = path[-1] if path else ""
    plain = last if not set(last) & set("=:;&@") else ""
    return f"{parts.scheme}{host}{'/' if path else ''}{'.../' if path[1:] else ''}{plain}"


class _Parts:
    """The parts of a URI: ``scheme`` with its slashes, the ``secret`` before the last "@", and the ``rest``.

    It ``is_ambiguous`` where that "@" may be part of a query as well as of a password with a "?" in it.
    """

    def __init__(self, text: str) -> None:
        match = URI_PARTS.fullmatch(text)
        assert match is not None
        local, network, slashes, self.rest = (part or "" for part in match.groups())
        self.is_url = bool(network)
        self.is_ambiguous = False
        self.scheme = f"{local}{network}{slashes}"
        self.secret: str | None = None
        uri, authority = self.rest, re.split(r"[/?#]", self.rest)[0]
        at = uri.rfind("@")
        if at < 0 and (encoded := [*ENCODED_AT.finditer(authority)]):
            at, end = encoded[-1].span()
        else:
            end = at + 1
        if at < 0 or not (network or ":" in uri[:at]):
            return
        self.secret, self.rest = uri[:at], uri[end:]
        self.is_ambiguous = "?" in self.secret and re.fullmatch(r"[^:@]*(:[0-9]*)?", authority) is not None
        if network and not re.fullmatch(f"({NETWORK}):", network, re.I):  # as likely a user's name
            self.secret, self.scheme = f"{network}{slashes}{self.secret}", local


def _public_query(query: str) -> str:
    """Return a query, an empty string where a value may be secret or an "@" makes it ambiguous."""
    parts = query.split("&")
    if "@" in query or any(SECRET_NAME.search(part.partition("=")[0]) for part in parts):
        return ""
    return query


def secrets_in(uri: str) -> list[str]:
    """Return the substrings of a URI that no text may contain, the longest first."""
    parts = _Parts(uri.removeprefix("gst:"))
    pieces: list[str] = []
    if uri.startswith("gst:"):
        for name, quoted, plain in re.findall(r"([\w-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|(\S+))", uri):
            pieces += [quoted, plain] if SECRET_NAME.search(name) else []
        for location in re.findall(r"[a-z]+://[^\s\"]+", uri, re.I):
            pieces += secrets_in(location)
    if parts.secret is not None:
        pieces += [
            parts.secret,
            *parts.secret.split(":", 1),
            *re.split(r"[:/?#&=@ ]|%3a|%40", parts.secret, flags=re.I),
        ]
    for part in re.split(r"[?&#;]", parts.rest)[1:]:
        name, mark, value = part.partition("=")
        value = value if mark else name
        if (parts.is_url and name not in PUBLIC_OPTIONS) or SECRET_NAME.search(name):
            pieces.append(value)
    if parts.is_ambiguous:
        pieces += re.split(r"[/?#&=@:;]", parts.rest)
    spellings = {text for piece in pieces for text in (piece, unquote(piece), quote(piece, safe=""))}
    return sorted((text for text in spellings if len(text) >= MIN_LENGTH and not text.isdigit()), key=len, reverse=True)


def scrub(text: str, secrets: list[str]) -> str:
    """Return a text in which secrets are replaced by asterisks."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def quotes_hidden(message: str, pipeline: str) -> str:
    """Return a message of GStreamer without the words that it quotes, where those may be part of a password."""
    may_hold_secrets = "location" in pipeline or "://" in pipeline or SECRET_NAME.search(pipeline)
    return re.sub(r'"[^"]*"', '"..."', message) if may_hold_secrets else message


def without(error: Exception, secrets: list[str]) -> Exception:
    """Return an error without secrets in its text; an error of a library becomes a `CameraError`."""
    text = str(error)
    if (scrubbed := scrub(text, secrets)) == text:
        return error
    return (
        type(error)(scrubbed) if isinstance(error, EdgemtlError) else CameraError(f"{type(error).__name__}: {scrubbed}")
    )
