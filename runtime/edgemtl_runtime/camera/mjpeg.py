"""Motion JPEG over HTTP (multipart/x-mixed-replace), each image decoded as soon as its last byte has arrived.

Stamped by the time that the camera writes before each image (``X-Timestamp``, seconds; mjpg-streamer, esp32-camera
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

from numpy.typing import NDArray

from ..errors import CameraError, UsageError
from ..frame import Frame, StampSource
from ..image_file import ImageFileError
from ..pixels import as_frame
from ..pixels import decode as decode_file
from ..text import shortened
from .address import split
from .base import LiveCamera
from .clock import ArrivalClock, SourceClock
from .libav import to_image
from .options import REDUCTIONS, Options, check_known, take_word
from .redaction import redact

OPEN_S, READ_S = 3.0, 2.0
"""A server that takes longer to answer, or to send anything more, is lost."""
MAX_BYTES = 64 << 20
"""Size limit of one image."""
DOCUMENTS = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
"""What cameras and their servers answer where an address is of a page, and not of the stream in it."""
MAX_BOUNDARY = 200
"""Bytes of the longest line that may be a boundary (RFC 2046 has 72)."""
END_OF_IMAGE = b"\xff\xd9"
"""The EOI marker of JPEG."""


class NotMultipart(UsageError):
    """The address does not answer with multipart/x-mixed-replace."""


class SingleImage(UsageError):
    """The address answers with one image."""


class MjpegCamera(LiveCamera):
    """A camera that sends JPEGs over one HTTP connection; truncated ones are reported as dropped."""

    def __init__(self, name: str, url: str, options: Options) -> None:
        super().__init__(name, redact(url))
        check_known(options, url, ["reduce"])
        self.reduce = int(take_word(options, url, "reduce", REDUCTIONS))
        self.response = open_url(self.label, url)
        content_type = self.response.headers.get_content_type()
        if content_type != "multipart/x-mixed-replace":
            self.response.close()
            if content_type.startswith("image/"):
                raise SingleImage(f"{self.label}: is a single image")
            if content_type in DOCUMENTS:
                raise CameraError(f"{self.label}: is {content_type}, no images; give the address of the stream itself")
            raise NotMultipart(f"{self.label}: is {content_type}")
        boundary = self.response.headers.get_param("boundary") or "--"
        self.boundary = b"--" + str(boundary).strip('"').removeprefix("--").encode()
        self.buffer = bytearray()
        self.at_first_part = True
        self.received_ns = 0

    def _frames(self) -> Iterator[Frame]:
        clock, arrivals, index = SourceClock(), ArrivalClock(), 0
        decode = _decoder(self.reduce)
        try:
            while not self.closed:
                data, source_ns, first_ns = self._part()
                source: StampSource = "arrival"
                if source_ns is not None:
                    clock.observe(source_ns, first_ns)
                    (stamp_ns, uncertainty_ns), source = clock.stamp(source_ns), "stream"
                else:
                    stamp_ns, uncertainty_ns = first_ns, arrivals.uncertainty(first_ns)
                image = decode(data) if data.rstrip(b"\r\n\0").endswith(END_OF_IMAGE) else None
                if image is None:
                    self.events.frame_dropped("corrupt packet")
                    continue
                now_ns = time.monotonic_ns()
                yield Frame(image, stamp_ns, self.name, index, source, "", now_ns, uncertainty_ns=uncertainty_ns)
                index += 1
        except (OSError, http.client.HTTPException) as error:
            if not self.closed:
                raise CameraError(f"{self.label}: stopped after {index} frames ({reason(error)})") from None

    def _release(self) -> None:
        self.response.close()

    def _part(self) -> tuple[bytes, int | None, int]:
        """Return the next image's bytes, the time in its header, if any, and when the header arrived."""
        if self.at_first_part:
            self._find_boundary()
        while self.boundary not in self.buffer:
            if len(self.buffer) > MAX_BYTES:
                raise CameraError(f"{self.label}: sends no boundary between its images")
            self._receive()
        del self.buffer[: self.buffer.index(self.boundary) + len(self.boundary)]
        while len(self.buffer) < 8:  # the boundary may have been sent with the image before
            self._receive()
        first_ns = self.received_ns
        while (end := self._header_end()) is None:
            self._receive()
        header = bytes(self.buffer[: end[0]]).decode("latin-1")
        del self.buffer[: end[1]]
        timestamp = re.search(r"(?im)^x-timestamp:\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*$", header)
        source_ns = round(float(timestamp[1]) * 1e6) * 1000 if timestamp else None
        length = re.search(r"(?im)^content-length:\s*([0-9]{1,9})\s*$", header)
        return self._body(int(length[1]) if length else 0), source_ns, first_ns

    def _find_boundary(self) -> None:
        """Take the first line for the boundary where it is another one than was announced, as some cameras send it."""
        self.at_first_part = False
        while not (line := self.buffer.lstrip(b"\r\n")) or b"\n" not in line:
            if len(line) > MAX_BOUNDARY:
                return
            self._receive()
        first = bytes(line.partition(b"\n")[0]).rstrip()
        if first.startswith(b"--") and not first.startswith(self.boundary) and len(first) <= MAX_BOUNDARY:
            self.boundary = first

    def _header_end(self) -> tuple[int, int] | None:
        for mark in (b"\r\n\r\n", b"\n\n"):
            if (index := self.buffer.find(mark)) >= 0:
                return index, index + len(mark)
        if len(self.buffer) > 1 << 16:
            raise CameraError(f"{self.label}: sends something else than images")
        return None

    def _body(self, length: int) -> bytes:
        if 0 < length <= MAX_BYTES:
            while len(self.buffer) < length:
                self._receive()
            data = bytes(self.buffer[:length])
            del self.buffer[:length]
            return data
        searched = 0
        while True:  # without a length an image ends at an EOI marker that only a boundary or nothing follows yet
            index = self.buffer.find(END_OF_IMAGE, searched)
            if index >= 0:
                rest = bytes(self.buffer[index + 2 :]).lstrip(b"\r\n")
                if not rest or self.boundary.startswith(rest[: len(self.boundary)]):
                    data = bytes(self.buffer[: index + 2])
                    del self.buffer[: index + 2]
                    return data
                searched = index + 2
                continue
            searched = max(len(self.buffer) - 1, 0)
            if self.boundary in self.buffer or len(self.buffer) > MAX_BYTES:  # no end marker: truncated
                index = max(self.buffer.find(self.boundary), 0)
                data = bytes(self.buffer[:index])
                del self.buffer[:index]
                return data
            self._receive()

    def _receive(self) -> None:
        data = self.response.read1(1 << 18)
        self.received_ns = time.monotonic_ns()
        if self.closed or not data:
            raise ConnectionResetError(0, "the camera has closed the connection")
        self.buffer += data


def open_url(label: str, url: str) -> Any:
    """Return the answer of a URL, by Basic or Digest authentication where it has a user; raises `CameraError`."""
    address = split(label, url)
    plain = f"http://{address.authority}{quote(address.rest, safe='/%?=&;:+,@!$*()~-._')}"
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if address.user:  # for every path of this host, to which it may redirect
        passwords.add_password(None, f"http://{address.authority}/", address.user, address.password)
    handlers = [
        urllib.request.ProxyHandler({}),  # a camera is on the robot's network
        urllib.request.HTTPDigestAuthHandler(passwords),
        urllib.request.HTTPBasicAuthHandler(passwords),
    ]
    try:
        response = urllib.request.build_opener(*handlers).open(plain, timeout=OPEN_S)
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:  # its text may hold the other address
            raise CameraError(f"{label}: is redirected without an end, or to no http:// address") from None
        if error.code in (401, 403):
            hint = "wrong user or password" if address.user else "give http://USER:PASSWORD@HOST/PATH"
            raise CameraError(f"{label}: the camera asks for a password ({hint})") from None
        raise CameraError(
            f"{label}: the camera answers {error.code} {shortened(error.reason, 100)}; check the address"
        ) from None
    except (OSError, ValueError, IndexError, http.client.HTTPException) as error:
        raise CameraError(f"{label}: cannot be opened ({reason(error, OPEN_S)}); check that it is there") from None
    connection = getattr(getattr(response.fp, "raw", None), "_sock", None)  # urllib has no read time-out
    if connection is not None:
        connection.settimeout(READ_S)
    return response


def reason(error: BaseException, timeout_s: float = READ_S) -> str:
    """Return the reason of a network's error, without the URL."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing for {timeout_s:g} s"
    return (isinstance(cause, OSError) and cause.strerror) or type(cause).__name__


def decoded(data: bytes, reduce: int = 1) -> NDArray[Any] | None:
    """Return a JPEG's image of its size divided by ``reduce``, by OpenCV; None where it is damaged."""
    try:
        return as_frame(decode_file(data, reduce).pixels)
    except ImageFileError:
        return None


def _decoder(reduce: int) -> Callable[[bytes], Any]:
    """Return a JPEG decoder: bytes to an image of its size divided by ``reduce``, None where they are damaged."""
    if reduce > 1:
        return lambda data: decoded(data, reduce)
    import av

    codec: Any = av.CodecContext.create("mjpeg", "r")
    codec.thread_type = "SLICE"
    codec.options = {"err_detect": "explode"}  # by default it completes a truncated image from another one

    def decode(data: bytes) -> Any:
        try:
            frames = codec.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError):
            return None
        return to_image(frames[0]) if frames and not frames[0].is_corrupt else None

    return decode
