"""A conversation with a camera: RTSP 1.0 (RFC 2326) over TCP, RTP within it or by UDP, RTCP's reports (RFC 3550)."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from ...errors import CameraError
from ..address import Address, split
from ..http_auth import authorization
from .sdp import Media, number, parse

USER_AGENT = "edgemtl-runtime"
PORT = 554
LARGEST = 1 << 20
"""Bytes of a head, or of a description, that are read at the most."""
GOODBYE_S = 0.2
"""A stream that was said to end, and of which nothing came for so long, has ended."""
REDIRECTS = 3
"""Other addresses that a camera may send us to, one after the other."""


class RtspError(CameraError):
    """The server does not do what is asked; ``code`` is RTSP's, 0 where it broke off."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Reply:
    """A server's answer."""

    code: int
    reason: str
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""

    def get(self, name: str) -> str:
        """Return a header's last value, empty where there is none."""
        return self.headers.get(name, [""])[-1]


@dataclass(frozen=True)
class Asked:
    """What the camera asked of us; it was answered."""

    method: str


@dataclass(frozen=True)
class Report:
    """What a sender says of its clock (RTCP sender report): Unix time and the stream's time of one moment."""

    unix_ns: int
    time: int


class Session:
    """One stream of a camera, playing once it is made; `packets` gives (bytes of RTP or a `Report`, when it came).

    Raises `RtspError` where the server does not answer within ``open_s``, or is silent for ``read_s``.
    """

    def __init__(
        self, what: str, url: str, udp: bool, open_s: float, read_s: float, codecs: Collection[str] = ()
    ) -> None:
        """``codecs`` are those that can be read: of several streams the first of them is taken."""
        self.what, self.open_s, self.read_s, self.codecs = what, open_s, read_s, codecs
        address = split(what, url)
        self.user, self.password = address.user, address.password
        self.number, self.id, self.challenges, self.alive_s = 0, "", list[str](), 60
        self.udp: list[socket.socket] = []
        self.others: tuple[str, int] | None = None
        self._go_to(address)
        try:
            self.media = self._setup(udp)
        except BaseException:
            self.close()
            raise

    def _go_to(self, address: Address) -> None:
        self.url = f"rtsp://{address.authority}{address.rest}"
        self.host, self.buffer = address.host, bytearray()
        self.socket = self._connect(address.host, address.port or PORT)

    def _connect(self, host: str, port: int) -> socket.socket:
        try:
            found = socket.create_connection((host, port), self.open_s)
        except (OSError, UnicodeError) as error:  # the second is of a host's name that none can have
            said = getattr(error, "strerror", None) or type(error).__name__
            raise RtspError(f"{self.what}: cannot be opened ({said}); check that it is there") from None
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def _setup(self, udp: bool) -> Media:
        described = self._described()
        base = described.get("content-base") or described.get("content-location") or self.url
        control, streams = parse(described.body.decode("utf-8", "replace"))
        videos = [each for each in streams if each.kind == "video"]
        if not videos:
            raise RtspError(f"{self.what}: holds no video")
        media = next((each for each in videos if each.codec in self.codecs), videos[0])
        self.control = _joined(base, control) if control not in ("", "*") else base
        transport = self._ports() if udp else "RTP/AVP/TCP;unicast;interleaved=0-1"
        setup = self._ask("SETUP", _joined(base, media.control), Transport=transport)
        self.id, _, rest = setup.get("session").partition(";")
        self.alive_s = max(number(rest.partition("timeout=")[2].partition(";")[0].strip(), 86_400, 60), 2)
        parts = [part.partition("=") for part in setup.get("transport").split(";")]
        told = {name.strip().lower(): value.strip() for name, _, value in parts}
        self.channel = number(told.get("interleaved", "0").partition("-")[0], 254, 0)
        if udp and (port := number(told.get("server_port", "").partition("-")[2], 65535, 0)):
            self.others = (self.socket.getpeername()[0], port)
        played = self._ask("PLAY", self.control, Range="npt=0.000-")
        begins = [part.partition("seq=")[2] for part in played.get("rtp-info").lower().split(";")]
        self.first = number(next((text.partition(",")[0].strip() for text in begins if text), ""), 0xFFFF, -1)
        return media

    def _described(self) -> Reply:
        """Return the camera's description, of the address that it sends us to where it does."""
        for _ in range(REDIRECTS + 1):
            options = self._ask("OPTIONS", self.url)
            self.keeps = "GET_PARAMETER" if "GET_PARAMETER" in options.get("public").upper() else "OPTIONS"
            described = self._ask("DESCRIBE", self.url, Accept="application/sdp")
            if described.code < 300:
                return described
            place = described.get("location")
            if not place.startswith("rtsp://"):
                raise RtspError(f"{self.what}: the camera answers {described.code} and names no rtsp:// address")
            self.socket.close()
            self.challenges = []
            address = split(f"{self.what}: is sent to another address, which", place)
            if address.user or address.host != self.host:  # a password is told to nobody else
                self.user, self.password = address.user, address.password
            self._go_to(address)
        raise RtspError(f"{self.what}: is sent from one address to another without an end")

    def _ports(self) -> str:
        family, host = self.socket.family, self.socket.getsockname()[0]
        for _ in range(50):  # an even port and the next one
            pair = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
            try:
                pair[0].bind((host, 0))
                port = pair[0].getsockname()[1]
                if port % 2 == 0:
                    pair[1].bind((host, port + 1))
                    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
                    self.udp = pair
                    return f"RTP/AVP;unicast;client_port={port}-{port + 1}"
            except OSError:
                pass
            for each in pair:
                each.close()
        raise RtspError(f"{self.what}: no two free ports for UDP")

    def _send(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.number += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.number}", f"User-Agent: {USER_AGENT}"]
        if self.id:
            lines.append(f"Session: {self.id}")
        if self.challenges and (value := authorization(self.challenges, method, url, self.user, self.password)):
            lines.append(f"Authorization: {value}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def _ask(self, method: str, url: str, **headers: str) -> Reply:
        for attempt in (1, 2):
            try:
                self._send(method, url, headers)
                reply = self._reply(time.monotonic() + self.open_s)
            except OSError as error:
                raise RtspError(f"{self.what}: stopped at {method} ({error.strerror or error})") from None
            if reply.code == 401 and attempt == 1 and self.user:
                self.challenges = reply.headers.get("www-authenticate", [])
                continue
            break
        if reply.code == 401:
            said = "wrong user or password" if self.user else "give rtsp://USER:PASSWORD@HOST/PATH"
            raise RtspError(f"{self.what}: the camera asks for a password ({said})", 401)
        moved = method == "DESCRIBE" and reply.code in (301, 302, 303, 305, 307, 308)
        if not (200 <= reply.code < 300 or moved or (method == "OPTIONS" and reply.code != 454)):
            raise RtspError(f"{self.what}: the camera answers {method} with {reply.code} {reply.reason}", reply.code)
        return reply

    def _reply(self, until: float) -> Reply:
        """Return the answer to the last request; media that come before it are passed over."""
        while True:
            if time.monotonic() > until:  # however much else comes
                raise TimeoutError(0, f"no answer for {self.open_s:g} s")
            if (item := self._item()) is not None:
                if isinstance(item, Reply) and item.get("cseq") in ("", str(self.number)):
                    return item
                continue
            self._receive(until - time.monotonic())

    def _receive(self, seconds: float) -> None:
        self.socket.settimeout(max(seconds, 0.001))
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError(0, "the camera has closed the connection")
        self.buffer += data

    def _item(self) -> Reply | Asked | tuple[int, bytes] | None:
        """Take an answer, or a channel and its bytes, from what has come; None where none is whole."""
        buffer = self.buffer
        while buffer.startswith((b"\r", b"\n")):
            del buffer[0]
        if buffer[:1] == b"$":
            if len(buffer) < 4 or len(buffer) < 4 + (length := int.from_bytes(buffer[2:4], "big")):
                return None
            channel, data = buffer[1], bytes(buffer[4 : 4 + length])
            del buffer[: 4 + length]
            return channel, data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > LARGEST:
                raise RtspError(f"{self.what}: sends what is not RTSP")
            return None
        first, *lines = bytes(buffer[:end]).decode("utf-8", "replace").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        length = number(headers.get("content-length", ["0"])[-1], LARGEST, 0)
        if len(buffer) < end + 4 + length:
            return None
        body = bytes(buffer[end + 4 : end + 4 + length])
        del buffer[: end + 4 + length]
        words = first.split(" ", 2)
        if words[0].startswith("RTSP/"):
            code = number(words[1], 999, 0) if len(words) > 1 else 0
            return Reply(code, words[2] if len(words) > 2 else "", headers, body)
        self.socket.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', ['0'])[-1]}\r\n\r\n".encode())
        return Asked(words[0])

    def packets(self, stopped: Callable[[], bool]) -> Iterator[tuple[bytes | Report, int]]:
        """Yield what comes, until ``stopped`` or the server ends; raises `RtspError`."""
        asked = heard = time.monotonic()
        ended_s: float | None = None
        while not stopped():
            now = time.monotonic()
            if now - asked > self.alive_s / 2:
                asked = now
                self._keep()
            if now - heard > self.read_s:
                raise RtspError(f"{self.what}: no picture for {self.read_s:g} s")
            for channel, data, came_ns in self._some(0.2):
                if channel == 0:
                    heard = time.monotonic()
                    yield data, came_ns
                elif channel == 1:
                    if (report := sender_report(data)) is not None:
                        self._answer()
                        yield report, came_ns
                    ended_s = time.monotonic() if says_goodbye(data) else ended_s
            if ended_s is not None and time.monotonic() - max(ended_s, heard) > GOODBYE_S:
                raise RtspError(f"{self.what}: the camera has ended the stream")

    def _some(self, seconds: float) -> Iterator[tuple[int, bytes, int]]:
        """Yield (0 for RTP or 1 for RTCP, bytes, when they came) of what comes within a while."""
        ready, _, _ = select.select([self.socket, *self.udp], [], [], seconds)
        came_ns = time.monotonic_ns()
        for place, each in enumerate(self.udp):
            if each in ready:
                yield place, each.recv(65536), came_ns
        if self.socket in ready:
            try:
                self._receive(self.open_s)
            except OSError as error:
                raise RtspError(f"{self.what}: stopped ({error.strerror or error})") from None
        while (item := self._item()) is not None:
            if isinstance(item, tuple):
                yield item[0] - self.channel, item[1], came_ns
            elif isinstance(item, Reply) and item.code == 401:  # its challenge was for one use, or for some time
                proved, self.challenges = self.challenges, item.headers.get("www-authenticate", [])
                if self.challenges != proved:
                    self._keep()

    def _keep(self) -> None:
        """Tell the server that somebody still watches."""
        with contextlib.suppress(OSError):
            self._send(self.keeps, self.control, {})

    def _answer(self) -> None:
        """Tell the sender that we are here (RTCP receiver report and source description)."""
        report = struct.pack(">BBHI", 0x80, 201, 1, 0x65646765)
        described = struct.pack(">BBHI", 0x81, 202, 3, 0x65646765) + b"\x01\x04edge\x00\x00"
        data = report + described
        with contextlib.suppress(OSError):
            if not self.udp:
                self.socket.sendall(b"$" + bytes([self.channel + 1]) + len(data).to_bytes(2, "big") + data)
            elif self.others:
                self.udp[1].sendto(data, self.others)

    def close(self) -> None:
        """Say goodbye, without waiting for an answer."""
        with contextlib.suppress(OSError):
            if self.id:
                self.socket.settimeout(0.2)
                self._send("TEARDOWN", self.control, {})
        for each in (self.socket, *self.udp):
            each.close()


def says_goodbye(data: bytes) -> bool:
    """Whether a compound RTCP packet tells that the sender ends its stream (BYE)."""
    place = 0
    while len(data) >= place + 4 and data[place] >> 6 == 2:
        if data[place + 1] == 203:
            return True
        place += 4 + 4 * int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def sender_report(data: bytes) -> Report | None:
    """Return the sender report of a compound RTCP packet, None where it holds none."""
    if len(data) < 20 or data[0] >> 6 != 2 or data[1] != 200:
        return None
    seconds, fraction, ticks = struct.unpack_from(">III", data, 8)
    if not seconds:  # a sender without a clock
        return None
    since_1970 = seconds - 2_208_988_800
    return Report(since_1970 * 1_000_000_000 + (fraction * 1_000_000_000 >> 32), ticks)


def _joined(base: str, control: str) -> str:
    """Return a stream's address: cameras mean it behind the base, not beside it."""
    if "://" in control:
        return control
    if control in ("", "*"):
        return base
    return f"{base}{'' if base.endswith('/') else '/'}{control}"
