"""Motion JPEG over HTTP (multipart/x-mixed-replace), each picture decoded the moment its last byte is here.

Stamped by the time that the camera writes before each picture (``X-Timestamp``, seconds; mjpg-streamer, esp32-camera
and others do), else on arrival of its first byte.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from ..errors import CameraError, UsageError, flag
from ..frame import Frame, StampSource
from . import Options, check_known, redact
from .address import split
from .clock import ArrivalClock, SourceClock
from .libav import picture

OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send anything more, is lost."""
LARGEST = 64 << 20
"""Bytes of a picture at the most."""
END = b"\xff\xd9"
"""What ends a JPEG (EOI)."""


class NotMultipart(UsageError):
    """The address answers with something else than pictures one after the other."""


class MjpegCamera:
    """A camera that sends JPEGs over one HTTP connection; cut ones are told to ``dropped`` and left out."""

    live = True
    owned_pictures = True

    def __init__(self, name: str, url: str, options: Options) -> None:
        self.name, self.what, self.closed = name, flag(name, redact(url)), False
        self.dropped: Callable[[str], None] = lambda cause: None
        self.begun = False
        check_known(options, url, [])
        self.response = _open(self.what, url)
        kind = self.response.headers.get_content_type()
        if kind != "multipart/x-mixed-replace":
            self.response.close()
            if kind in ("image/jpeg", "image/png"):
                raise UsageError(f"{self.what}: is a single picture; give the address of the camera's MJPEG stream")
            raise NotMultipart(f"{self.what}: is {kind}")
        boundary = self.response.headers.get_param("boundary") or "--"
        self.boundary = b"--" + str(boundary).strip('"').removeprefix("--").encode()
        self.buffer = bytearray()
        self.came_ns = 0

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the stream stops."""
        clock, arrivals, index, self.begun = SourceClock(), ArrivalClock(), 0, True
        decode = _decoder()
        try:
            while not self.closed:
                data, told_ns, first_ns = self._part()
                stamp_ns, unsure_ns, source = first_ns, 0, "arrival"
                if told_ns is not None:
                    clock.observe(told_ns, first_ns)
                    (stamp_ns, unsure_ns), source = clock.stamp(told_ns), "stream"
                else:
                    unsure_ns = arrivals.uncertainty(first_ns)
                image = decode(data) if data.rstrip(b"\r\n\0").endswith(END) else None
                if image is None:
                    self.dropped("corrupt packet")
                    continue
                how: StampSource = "stream" if source == "stream" else "arrival"
                now_ns = time.monotonic_ns()
                yield Frame(image, stamp_ns, self.name, index, how, "", now_ns, uncertainty_ns=unsure_ns)
                index += 1
        except (OSError, http.client.HTTPException) as error:
            if not self.closed:
                raise CameraError(f"{self.what}: stopped after {index} frames ({_said(error)})") from None
        finally:
            self.response.close()

    def _part(self) -> tuple[bytes, int | None, int]:
        """Return the next picture's bytes, the time that its head tells, and when its head came."""
        while self.boundary not in self.buffer:
            if len(self.buffer) > LARGEST:
                raise CameraError(f"{self.what}: sends no boundary between its pictures")
            self._receive()
        del self.buffer[: self.buffer.index(self.boundary) + len(self.boundary)]
        while len(self.buffer) < 8:  # the boundary may have been sent with the picture before
            self._receive()
        first_ns = self.came_ns
        while (end := self._head_end()) is None:
            self._receive()
        head = bytes(self.buffer[: end[0]]).decode("latin-1")
        del self.buffer[: end[1]]
        told = re.search(r"(?im)^x-timestamp:\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*$", head)
        told_ns = round(float(told[1]) * 1e6) * 1000 if told else None
        length = re.search(r"(?im)^content-length:\s*([0-9]{1,9})\s*$", head)
        return self._body(int(length[1]) if length else 0), told_ns, first_ns

    def _head_end(self) -> tuple[int, int] | None:
        for mark in (b"\r\n\r\n", b"\n\n"):
            if (place := self.buffer.find(mark)) >= 0:
                return place, place + len(mark)
        if len(self.buffer) > 1 << 16:
            raise CameraError(f"{self.what}: sends something else than pictures")
        return None

    def _body(self, length: int) -> bytes:
        if 0 < length <= LARGEST:
            while len(self.buffer) < length:
                self._receive()
            data = bytes(self.buffer[:length])
            del self.buffer[:length]
            return data
        looked = 0
        while True:  # without a length a picture ends with its own end, where only a boundary or nothing follows yet
            place = self.buffer.find(END, looked)
            if place >= 0:
                rest = bytes(self.buffer[place + 2 :]).lstrip(b"\r\n")
                if not rest or self.boundary.startswith(rest[: len(self.boundary)]):
                    data = bytes(self.buffer[: place + 2])
                    del self.buffer[: place + 2]
                    return data
                looked = place + 2
                continue
            looked = max(len(self.buffer) - 1, 0)
            if self.boundary in self.buffer or len(self.buffer) > LARGEST:  # it has no end: cut
                place = max(self.buffer.find(self.boundary), 0)
                data = bytes(self.buffer[:place])
                del self.buffer[:place]
                return data
            self._receive()

    def _receive(self) -> None:
        data = self.response.read1(1 << 18)
        self.came_ns = time.monotonic_ns()
        if self.closed or not data:
            raise ConnectionResetError(0, "the camera has closed the connection")
        self.buffer += data

    def close(self) -> None:
        """Stop reading at the next bytes or after `READ_S`; the thread that reads closes the connection, if any."""
        self.closed = True
        if not self.begun:
            self.response.close()


def _open(what: str, url: str) -> Any:
    address = split(what, url)
    plain = f"http://{address.authority}{quote(address.rest, safe='/%?=&;:+,@!$*()~-._')}"
    known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if address.user:
        known.add_password(None, plain, address.user, address.password)
    handlers = [
        urllib.request.ProxyHandler({}),  # a camera stands in the robot's own network
        urllib.request.HTTPDigestAuthHandler(known),
        urllib.request.HTTPBasicAuthHandler(known),
    ]
    try:
        response = urllib.request.build_opener(*handlers).open(plain, timeout=OPEN_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            said = "wrong user or password" if address.user else "give http://USER:PASSWORD@HOST/PATH"
            raise CameraError(f"{what}: the camera asks for a password ({said})") from None
        raise CameraError(f"{what}: the camera answers {error.code} {error.reason}; check the address") from None
    except (OSError, ValueError, IndexError, http.client.HTTPException) as error:
        raise CameraError(f"{what}: cannot be opened ({_said(error)}); check that it is there") from None
    if (raw := getattr(getattr(response.fp, "raw", None), "_sock", None)) is not None:
        raw.settimeout(READ_S)
    return response


def _said(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"nothing for {READ_S:g} s"
    return str(getattr(cause, "strerror", None) or type(cause).__name__)


def _decoder() -> Callable[[bytes], Any]:
    """Return what turns a JPEG's bytes into a picture, None where it is damaged."""
    import av

    codec: Any = av.CodecContext.create("mjpeg", "r")
    codec.thread_type = "SLICE"
    codec.options = {"err_detect": "explode"}  # which else fills a cut picture up from another one

    def decode(data: bytes) -> Any:
        try:
            frames = codec.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError):
            return None
        return picture(frames[0]) if frames and not frames[0].is_corrupt else None

    return decode
