"""An RTSP server with the habits of cameras, whose pictures tell when they were drawn."""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import md5
from typing import Any

import av
import numpy as np
from clockface import HEIGHT, WIDTH, Painter

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n"
VIDEO = (
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1{sets}\r\na=control:{control}\r\n"
)


@dataclass
class Habits:
    """What a camera does its own way; without any it does as the standard's examples do."""

    fps: float = 30.0
    session: str = "a=control:*\r\n"
    before: str = ""
    """Other streams of the description, before the video."""
    control: str = "track=1"
    base: bool = True
    """Whether the answer to DESCRIBE has a Content-Base."""
    transport: str = "RTP/AVP/TCP;unicast;interleaved=0-1"
    channel: int = 0
    rejected: str = "no transport"
    """What a transport asked for may not hold."""
    timeout_s: int = 60
    """A session that is not kept alive for so long ends."""
    password: str = ""
    """Of the user "me", proved by a digest."""
    nonce_uses: int = 1000
    redirect: str = ""
    piece: int = 0
    """Bytes of an answer that are sent at once."""
    asks: bool = False
    """Whether it asks something itself, by a number of ours, before it answers."""
    marker: bool = True
    ends: bool = True
    """Whether the last fragment of a unit says so."""
    sets_in_band: bool = True
    between: Callable[[int, int, int], list[bytes]] = lambda sequence, ticks, source: []
    """What comes before each packet: others that take numbers of the stream."""
    others: Callable[[], bytes] = lambda: b""
    """Bytes on the connection between pictures: of other channels."""
    size: int = 150
    bye_after: int = 0
    """Pictures after which the stream ends with RTCP's BYE and silence."""
    ticks: Callable[[int, int], int] = lambda index, drawn_ns: drawn_ns * 9 // 100_000
    """RTP's time of a picture by its index and its moment."""
    options: dict[str, str] = field(default_factory=dict)
    """The encoder's."""


class OddRtsp:
    """Serves one stream at every path, in threads; ``asked`` holds what clients said."""

    def __init__(self, habits: Habits, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.habits, self.closed, self.asked = habits, False, list[str]()
        self.server = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.port = int(self.server.getsockname()[1])
        self.host = "[::1]" if family == socket.AF_INET6 else "127.0.0.1"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        user = f"me:{self.habits.password}@" if self.habits.password else ""
        return f"rtsp://{user}{self.host}:{self.port}/live?channel=1"

    def methods(self) -> list[str]:
        return [line.split()[0] for line in self.asked]

    def kill(self) -> None:
        self.closed = True
        self.server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=_Client(self, self.server.accept()[0]).run, daemon=True).start()


class _Client:
    def __init__(self, server: OddRtsp, client: socket.socket) -> None:
        self.server, self.habits, self.socket = server, server.habits, client
        self.lock, self.playing, self.heard = threading.Lock(), False, time.monotonic()
        self.nonce, self.uses = secrets.token_hex(8), 0

    def run(self) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while data := self.socket.recv(4096):
                buffer += data
                while True:
                    if buffer[:1] == b"$" and len(buffer) > 3:
                        buffer = buffer[4 + int.from_bytes(buffer[2:4], "big") :]
                        continue
                    head, mark, rest = buffer.partition(b"\r\n\r\n")
                    if not mark or buffer[:1] == b"$":
                        break
                    buffer = rest
                    self.answer(head.decode())
        self.playing = False
        self.socket.close()

    def answer(self, head: str) -> None:
        h, number = self.habits, re.search(r"(?im)^cseq: *(\d+)", head)
        if number is None or head.startswith("RTSP/"):
            return
        method, url = head.split()[:2]
        self.server.asked.append(f"{method} {url}")
        if not self._known(method, head):
            self.respond(401, number[1], f'WWW-Authenticate: Digest realm="cam", nonce="{self.nonce}", stale=TRUE\r\n')
            return
        self.heard = time.monotonic()
        if h.asks and method == "DESCRIBE":
            self.send(f"OPTIONS * RTSP/1.0\r\nCSeq: {number[1]}\r\n\r\n".encode())
        if method == "OPTIONS":
            self.respond(200, number[1], "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n")
        elif method == "DESCRIBE" and h.redirect:
            self.respond(302, number[1], f"Location: {h.redirect}\r\n")
        elif method == "DESCRIBE":
            base = f"Content-Base: {url}/\r\n" if h.base else ""
            self.encoder, sets = encoder(h)
            control = h.control.format(host=self.server.host, port=self.server.port)
            text = SDP + h.session + h.before + VIDEO.format(sets=sets, control=control)
            headers = f"{base}Content-Type: application/sdp\r\nContent-Length: {len(text)}\r\n"
            self.respond(200, number[1], headers, text)
        elif method == "SETUP" and h.rejected in head:
            self.respond(461, number[1])
        elif method == "SETUP":
            self.respond(200, number[1], f"Session: 1234;timeout={h.timeout_s}\r\nTransport: {h.transport}\r\n")
        elif method == "PLAY":
            self.respond(200, number[1], "Session: 1234\r\n")
            self.playing = True
            threading.Thread(target=self.play, daemon=True).start()
        else:
            self.respond(200, number[1])

    def _known(self, method: str, head: str) -> bool:
        h = self.habits
        if not h.password:
            return True
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', head))

        def hashed(*words: str) -> str:
            return md5(":".join(words).encode()).hexdigest()

        right = hashed(hashed("me", "cam", h.password), self.nonce, hashed(method, parameters.get("uri", "")))
        good = parameters.get("response") == right
        self.uses += good
        if self.uses >= h.nonce_uses:
            self.nonce, self.uses = secrets.token_hex(8), 0
        return good

    def respond(self, code: int, number: str, headers: str = "", body: str = "") -> None:
        data = f"RTSP/1.0 {code} X\r\nCSeq: {number}\r\n{headers}\r\n{body}".encode()
        step = self.habits.piece or len(data)
        for index in range(0, len(data), step):
            self.send(data[index : index + step])

    def send(self, data: bytes) -> None:
        with self.lock:
            self.socket.sendall(data)

    def play(self) -> None:
        h, sequence, source, painter, due = self.habits, 65_500, secrets.randbits(31), Painter(), time.monotonic()
        with contextlib.suppress(OSError):
            for index in range(1 << 30):
                due = max(due + 1 / h.fps, time.monotonic() - 1 / h.fps)
                time.sleep(max(due - time.monotonic(), 0))
                if self.server.closed or time.monotonic() - self.heard > h.timeout_s or not self.playing:
                    self.socket.shutdown(socket.SHUT_RDWR)
                    return
                if h.bye_after and index >= h.bye_after:
                    self.packet(h.channel + 1, struct.pack(">BBHIBBHI", 0x80, 201, 1, source, 0x81, 203, 1, source))
                    return
                for data, ticks in coded(self.encoder, painter, index, h):
                    if others := h.others():
                        self.send(others)
                    for payload, last in payloads(data, h):
                        for other in h.between(sequence, ticks, source):
                            self.packet(h.channel, other)
                            sequence += 1
                        head = struct.pack(
                            ">BBHII",
                            0x80,
                            96 | 0x80 * (last and h.marker),
                            sequence & 0xFFFF,
                            ticks & 0xFFFFFFFF,
                            source,
                        )
                        self.packet(h.channel, head + payload)
                        sequence += 1

    def packet(self, channel: int, data: bytes) -> None:
        self.send(b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data)


def encoder(habits: Habits) -> tuple[Any, str]:
    """Return an encoder and what the description tells of its parameter sets."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.gop_size = WIDTH, HEIGHT, "yuv420p", 15
    codec.framerate, codec.time_base = round(habits.fps), Fraction(1, 90_000)
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", **habits.options}
    if habits.sets_in_band:
        return codec, ""
    codec.flags |= 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
    codec.open()
    units = [unit for unit in split(bytes(codec.extradata)) if unit[0] & 31 in (7, 8)]
    return codec, ";sprop-parameter-sets=" + ",".join(base64.b64encode(unit).decode() for unit in units)


def coded(codec: Any, painter: Painter, index: int, habits: Habits) -> Iterator[tuple[bytes, int]]:
    """Draw and encode a picture; yield what the encoder gives, and RTP's time of it."""
    now_ns = time.monotonic_ns()
    planes = np.frombuffer(painter.draw(now_ns), np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.pts, frame.time_base = habits.ticks(index, now_ns), codec.time_base
    for packet in codec.encode(frame):
        yield bytes(packet), int(packet.pts)


def split(data: bytes) -> list[bytes]:
    """Return the units of a byte stream."""
    return [unit for unit in re.split(b"\0?\0\0\1", data) if unit]


def payloads(data: bytes, habits: Habits) -> Iterator[tuple[bytes, bool]]:
    """Yield RTP's payloads of a picture, and whether each is its last."""
    units = split(data)
    for n, unit in enumerate(units):
        last = n == len(units) - 1
        if len(unit) <= habits.size:
            yield unit, last
            continue
        parts = [unit[i : i + habits.size] for i in range(1, len(unit), habits.size)]
        for index, part in enumerate(parts):
            ends = index == len(parts) - 1
            flags = 0x80 * (index == 0) | 0x40 * (ends and habits.ends)
            yield bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 31]) + part, last and ends
