"""Passwords of cameras: filled in from the environment or from files, and shown nowhere.

${NAME}        in a source is the environment's NAME, so that the list of processes shows no password
${file:NAME}   is what a file holds: of systemd's $CREDENTIALS_DIRECTORY where there is one, or any by its path
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ..errors import CameraError, EdgemtlError, UsageError, flag
from ..limits import read_bounded

NETWORK = "rtsps?|rtspt|rtspu|https?|rtmps?|rtmpt|rtp|srtp|srt|udp|tcp|tls|mmsh?|ftps?|sftp|wss?"
LOCAL = "file|mcap|bag|v4l2|csi"
FORM = re.compile(rf"((?:(?:{LOCAL}):)*)((?:{NETWORK}):|[a-z][a-z0-9+.-]*:(?=//))?(/*)(.*)", re.I | re.S)
AT = re.compile("%40")
HOLE = re.compile(r"\$\{(file:)?([^{}]*)\}")
TELLING = re.compile(r"pass|pw|psw|pas$|token|key|secret|auth|user|login|sig|cred|pin", re.I)
"""Names of options whose values are nobody's business."""
OURS = (
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
    "clock",
    "pair",
)
"""Options whose values may be told."""
LEAST = 3
"""Letters of the shortest secret that is looked for in a text: any shorter one stands in half of all words."""
MOST_BYTES = 4096
HIDDEN = "***"
OTHERS = 0o077


def redact(uri: object) -> str:
    """Return a source without what it may hold of a user's name and password, wherever cameras want them.

    Of a URL stay the host and the path's last part, of a pipeline only that it is one. What stands before the last "@"
    is left out in any form: a password may hold any sign.
    """
    text = str(uri)
    if text.startswith("gst:"):
        return "gst:"
    form = _Form(text)
    if form.secret is None and not form.is_url:
        place, mark, query = text.partition("?")
        told = _told_query(query)
        return f"{place}{mark and told and '?'}{told}"
    if form.is_doubtful:
        return f"{form.scheme}..."
    host, *parts = re.split(r"[?#]", form.rest)[0].split("/")
    last = parts[-1] if parts else ""
    plain = last if not set(last) & set("=:;&@") else ""
    return f"{form.scheme}{host}{'/' if parts else ''}{'.../' if parts[1:] else ''}{plain}"


class _Form:
    """A source by its parts: ``scheme`` with its slashes, what stands before the last "@", and the ``rest``.

    It ``is_doubtful`` where that "@" may be of a query as well as of a password with a "?" in it.
    """

    def __init__(self, text: str) -> None:
        match = FORM.fullmatch(text)
        assert match is not None
        local, network, slashes, self.rest = (part or "" for part in match.groups())
        self.is_url = bool(network)
        self.is_doubtful = False
        self.scheme = f"{local}{network}{slashes}"
        self.secret: str | None = None
        place, authority = self.rest, re.split(r"[/?#]", self.rest)[0]
        at = place.rfind("@")
        if at < 0 and (encoded := [*AT.finditer(authority)]):
            at, end = encoded[-1].span()
        else:
            end = at + 1
        if at < 0 or not (network or ":" in place[:at]):
            return
        self.secret, self.rest = place[:at], place[end:]
        self.is_doubtful = "?" in self.secret and re.fullmatch(r"[^:@]*(:[0-9]*)?", authority) is not None
        if network and not re.fullmatch(f"({NETWORK}):", network, re.I):  # as likely a user's name
            self.secret, self.scheme = f"{network}{slashes}{self.secret}", local


def _told_query(query: str) -> str:
    """Return options without those whose values are secret, and nothing where an "@" makes all of them doubtful."""
    parts = query.split("&")
    if "@" in query or any(TELLING.search(part.partition("=")[0]) for part in parts):
        return ""
    return query


def secrets_in(uri: str) -> list[str]:
    """Return what of a source is to stand in no text, the longest first."""
    form = _Form(uri.removeprefix("gst:"))
    pieces: list[str] = []
    if uri.startswith("gst:"):
        for name, quoted, plain in re.findall(r"([\w-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|(\S+))", uri):
            pieces += [quoted, plain] if TELLING.search(name) else []
        for location in re.findall(r"[a-z]+://[^\s\"]+", uri, re.I):
            pieces += secrets_in(location)
    if form.secret is not None:
        pieces += [form.secret, *form.secret.split(":", 1), *re.split(r"[:/?#&=@ ]|%3a|%40", form.secret, flags=re.I)]
    for part in re.split(r"[?&#;]", form.rest)[1:]:
        name, mark, value = part.partition("=")
        value = value if mark else name
        if (form.is_url and name not in OURS) or TELLING.search(name):
            pieces.append(value)
    if form.is_doubtful:
        pieces += re.split(r"[/?#&=@:;]", form.rest)
    found = {piece for each in pieces for piece in (each, unquote(each), quote(each, safe=""))}
    return sorted((piece for piece in found if len(piece) >= LEAST and not piece.isdigit()), key=len, reverse=True)


def scrub(text: str, secrets: list[str]) -> str:
    """Return a text in which stars stand for secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def fill(uri: str, name: str) -> tuple[str, list[str]]:
    """Return a source with its holes filled, and what went into them; raises `UsageError` on one that stays empty.

    In the user's part and the query of a URL a value is percent-encoded, and in a pipeline put between quotes.
    """
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        told = _value(match, name)
        values.append(told)
        if uri.startswith("gst:"):
            return (
                '"' + told.replace("\\", "\\\\").replace('"', '\\"') + '"' if re.search(r"[\s\"'!\\]", told) else told
            )
        behind, before = uri[match.end() :], uri[: match.start()]
        return quote(told, safe="") if "://" in before and ("@" in behind or "?" in before) else told

    return HOLE.sub(value, uri), values


def _value(match: re.Match[str], name: str) -> str:
    if match[1]:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        return read_secret(Path(folder or ".") / match[2], flag(name))
    told = os.environ.get(match[2])
    if told is None or not match[2]:
        raise UsageError(f"{flag(name)}: the environment has no {match[2][:60] or 'name'!r}, which ${{...}} asks for")
    return told


def read_secret(file: Path, whose: str) -> str:
    """Return the one line that a file holds; warns where others may read it. Raises `EdgemtlError`, never with it."""
    data = read_bounded(file, MOST_BYTES)
    try:
        told = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        told = ""
    if not told or not told.isprintable():
        raise EdgemtlError(f"{whose} {file}: holds no line of text; write the secret into it, and nothing else")
    trusted = os.environ.get("CREDENTIALS_DIRECTORY")
    if file.stat().st_mode & OTHERS and not (trusted and file.is_relative_to(trusted)):
        log = logging.getLogger("edgemtl_runtime")
        log.warning("%s %s: other users may read this secret; chmod 600 it", whose, file)
    return told


def quotes_hidden(message: str, pipeline: str) -> str:
    """Return what GStreamer says without the words that it quotes, where those may be of a password."""
    doubtful = "location" in pipeline or "://" in pipeline or TELLING.search(pipeline)
    return re.sub(r'"[^"]*"', '"..."', message) if doubtful else message


class Discreet:
    """A camera whose errors name no secret of its source."""

    def __init__(self, camera: Any, secrets: list[str]) -> None:
        object.__setattr__(self, "camera", camera)
        object.__setattr__(self, "secrets", secrets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.camera, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.camera, name, value)

    def frames(self) -> Iterator[Any]:
        """Yield the camera's frames; its errors without secrets."""
        yield from told_discreetly(self.camera.frames, self.secrets)


def told_discreetly(frames: Callable[[], Iterator[Any]], secrets: list[str]) -> Iterator[Any]:
    """Yield what ``frames`` gives, and raise what it raises without secrets."""
    try:
        yield from frames()
    except Exception as error:
        raise without(error, secrets) from None


def discreet(opener: Callable[[], Any], secrets: list[str]) -> Callable[[], Any]:
    """Return an opener whose errors, and whose camera's, name no secret."""
    if not secrets:
        return opener

    def opened() -> Any:
        try:
            return Discreet(opener(), secrets)
        except Exception as error:
            raise without(error, secrets) from None

    return opened


def without(error: Exception, secrets: list[str]) -> Exception:
    """Return an error without secrets in its text; one of a library's becomes ours."""
    text = str(error)
    if (told := scrub(text, secrets)) == text:
        return error
    return type(error)(told) if isinstance(error, EdgemtlError) else CameraError(f"{type(error).__name__}: {told}")
