"""RTSP 1.0 sessions (RFC 2326) over TCP, with RTP interleaved or by UDP, and RTCP reports (RFC 3550)."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from ...errors import CameraError
from ...text import shortened
from ..address import Address, split
from ..http_auth import authorization
from .rtcp import SenderReport, has_goodbye, receiver_report, sender_report
from .sdp import Media, number, parse

USER_AGENT = "edgemtl-runtime"
PORT = 554
MAX_BYTES = 1 << 20
"""Size limit of a header, and of a description."""
GOODBYE_S = 0.2
"""A stream has ended when nothing follows its RTCP BYE for so long."""
REDIRECTS = 3
"""Maximum number of redirects, one after another."""


class RtspError(CameraError):
    """A request failed; ``code`` is the RTSP status code, 0 where the connection broke."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Response:
    """A server's response."""

    code: int
    reason: str
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""

    def get(self, name: str) -> str:
        """Return the last value of a header, empty where there is none."""
        return self.headers.get(name, [""])[-1]


@dataclass(frozen=True)
class Request:
    """A request of the camera, which was answered."""

    method: str


class Session:
    """One media stream of a camera, playing once constructed; `packets` yields RTP packets and sender reports.

    Raises `RtspError` where the server does not answer within ``open_s``, or is silent for ``read_s``.
    """

    def __init__(
        self, label: str, url: str, udp: bool, open_s: float, read_s: float, codecs: Collection[str] = ()
    ) -> None:
        """``codecs`` are those that can be decoded: the first stream with one of them is selected."""
        self.label, self.open_s, self.read_s, self.codecs = label, open_s, read_s, codecs
        address = split(label, url)
        self.user, self.password = address.user, address.password
        self.cseq, self.id, self.challenges, self.timeout_s = 0, "", list[str](), 60
        self.udp: list[socket.socket] = []
        self.rtcp_address: tuple[str, int] | None = None
        self._connect_to(address)
        try:
            self.media = self._setup(udp)
        except BaseException:
            self.close()
            raise

    def _connect_to(self, address: Address) -> None:
        self.url = f"rtsp://{address.authority}{address.rest}"
        self.host, self.buffer = address.host, bytearray()
        self.socket = self._connect(address.host, address.port or PORT)

    def _connect(self, host: str, port: int) -> socket.socket:
        try:
            connection = socket.create_connection((host, port), self.open_s)
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            raise RtspError(f"{self.label}: cannot be opened ({reason}); check that it is there") from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _setup(self, udp: bool) -> Media:
        description = self._describe()
        base = description.get("content-base") or description.get("content-location") or self.url
        control, streams = parse(description.body.decode("utf-8", "replace"))
        videos = [stream for stream in streams if stream.media == "video"]
        if not videos:
            raise RtspError(f"{self.label}: holds no video")
        media = next((stream for stream in videos if stream.codec in self.codecs), videos[0])
        self.control = _joined(base, control) if control not in ("", "*") else base
        transport = self._bind_ports() if udp else "RTP/AVP/TCP;unicast;interleaved=0-1"
        setup = self._request("SETUP", _joined(base, media.control), Transport=transport)
        self.id, _, rest = setup.get("session").partition(";")
        self.timeout_s = max(number(rest.partition("timeout=")[2].partition(";")[0].strip(), 86_400, 60), 2)
        parts = [part.partition("=") for part in setup.get("transport").split(";")]
        parameters = {name.strip().lower(): value.strip() for name, _, value in parts}
        self.channel = number(parameters.get("interleaved", "0").partition("-")[0], 254, 0)
        if udp and (port := number(parameters.get("server_port", "").partition("-")[2], 65535, 0)):
            self.rtcp_address = (self.socket.getpeername()[0], port)
        play = self._request("PLAY", self.control, Range="npt=0.000-")
        sequences = [part.partition("seq=")[2] for part in play.get("rtp-info").lower().split(";")]
        self.first_sequence = number(
            next((text.partition(",")[0].strip() for text in sequences if text), ""), 0xFFFF, -1
        )
        return media

    def _describe(self) -> Response:
        """Return the response to DESCRIBE, following redirects."""
        for _ in range(REDIRECTS + 1):
            options = self._request("OPTIONS", self.url)
            self.keepalive_method = "GET_PARAMETER" if "GET_PARAMETER" in options.get("public").upper() else "OPTIONS"
            description = self._request("DESCRIBE", self.url, Accept="application/sdp")
            if description.code < 300:
                return description
            location = description.get("location")
            if not location.startswith("rtsp://"):
                raise RtspError(f"{self.label}: the camera answers {description.code} and names no rtsp:// address")
            self.socket.close()
            self.challenges = []
            address = split(f"{self.label}: is sent to another address, which", location)
            if address.user or address.host != self.host:  # a password is sent to no other host
                self.user, self.password = address.user, address.password
            self._connect_to(address)
        raise RtspError(f"{self.label}: is sent from one address to another without an end")

    def _bind_ports(self) -> str:
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
            for port_socket in pair:
                port_socket.close()
        raise RtspError(f"{self.label}: no two free ports for UDP")

    def _send(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.cseq += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.cseq}", f"User-Agent: {USER_AGENT}"]
        if self.id:
            lines.append(f"Session: {self.id}")
        if self.challenges and (value := authorization(self.challenges, method, url, self.user, self.password)):
            lines.append(f"Authorization: {value}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def _request(self, method: str, url: str, **headers: str) -> Response:
        for attempt in (1, 2):
            try:
                self._send(method, url, headers)
                response = self._response(time.monotonic() + self.open_s)
            except OSError as error:
                raise RtspError(f"{self.label}: stopped at {method} ({error.strerror or error})") from None
            if response.code == 401 and attempt == 1 and self.user:
                self.challenges = response.headers.get("www-authenticate", [])
                continue
            break
        if response.code == 401:
            hint = "wrong user or password" if self.user else "give rtsp://USER:PASSWORD@HOST/PATH"
            raise RtspError(f"{self.label}: the camera asks for a password ({hint})", 401)
        moved = method == "DESCRIBE" and response.code in (301, 302, 303, 305, 307, 308)
        if not (200 <= response.code < 300 or moved or (method == "OPTIONS" and response.code != 454)):
            raise RtspError(
                f"{self.label}: the camera answers {method} with {response.code} {shortened(response.reason, 100)}",
                response.code,
            )
        return response

    def _response(self, until: float) -> Response:
        """Return the response to the last request; interleaved media before it are ignored."""
        while True:
            if time.monotonic() > until:  # however much else comes
                raise TimeoutError(0, f"no answer for {self.open_s:g} s")
            if (item := self._item()) is not None:
                if isinstance(item, Response) and item.get("cseq") in ("", str(self.cseq)):
                    return item
                continue
            self._receive(until - time.monotonic())

    def _receive(self, seconds: float) -> None:
        self.socket.settimeout(max(seconds, 0.001))
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError(0, "the camera has closed the connection")
        self.buffer += data

    def _item(self) -> Response | Request | tuple[int, bytes] | None:
        """Take a message, or a channel and its bytes, from the buffer; None where none is complete."""
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
            if len(buffer) > MAX_BYTES:
                raise RtspError(f"{self.label}: sends what is not RTSP")
            return None
        first, *lines = bytes(buffer[:end]).decode("utf-8", "replace").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        length = number(headers.get("content-length", ["0"])[-1], MAX_BYTES, 0)
        if len(buffer) < end + 4 + length:
            return None
        body = bytes(buffer[end + 4 : end + 4 + length])
        del buffer[: end + 4 + length]
        words = first.split(" ", 2)
        if words[0].startswith("RTSP/"):
            code = number(words[1], 999, 0) if len(words) > 1 else 0
            return Response(code, words[2] if len(words) > 2 else "", headers, body)
        self.socket.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', ['0'])[-1]}\r\n\r\n".encode())
        return Request(words[0])

    def packets(self, stopped: Callable[[], bool]) -> Iterator[tuple[bytes | SenderReport, int]]:
        """Yield (RTP packet or sender report, arrival time) until ``stopped``; raises `RtspError` at the end."""
        kept_alive_s = received_s = time.monotonic()
        ended_s: float | None = None
        while not stopped():
            now_s = time.monotonic()
            if now_s - kept_alive_s > self.timeout_s / 2:
                kept_alive_s = now_s
                self._keep_alive()
            if now_s - received_s > self.read_s:
                raise RtspError(f"{self.label}: no frame for {self.read_s:g} s")
            for channel, data, arrived_ns in self._receive_media(0.2):
                if channel == 0:
                    received_s = time.monotonic()
                    yield data, arrived_ns
                elif channel == 1:
                    if (report := sender_report(data)) is not None:
                        self._send_receiver_report()
                        yield report, arrived_ns
                    ended_s = time.monotonic() if has_goodbye(data) else ended_s
            if ended_s is not None and time.monotonic() - max(ended_s, received_s) > GOODBYE_S:
                raise RtspError(f"{self.label}: the camera has ended the stream")

    def _receive_media(self, seconds: float) -> Iterator[tuple[int, bytes, int]]:
        """Yield (0 for RTP or 1 for RTCP, bytes, arrival time) of what arrives within ``seconds``."""
        ready, _, _ = select.select([self.socket, *self.udp], [], [], seconds)
        arrived_ns = time.monotonic_ns()
        for channel, udp_socket in enumerate(self.udp):
            if udp_socket in ready:
                yield channel, udp_socket.recv(65536), arrived_ns
        if self.socket in ready:
            try:
                self._receive(self.open_s)
            except OSError as error:
                raise RtspError(f"{self.label}: stopped ({error.strerror or error})") from None
        while (item := self._item()) is not None:
            if isinstance(item, tuple):
                yield item[0] - self.channel, item[1], arrived_ns
            elif isinstance(item, Response) and item.code == 401:  # the nonce has expired
                previous, self.challenges = self.challenges, item.headers.get("www-authenticate", [])
                if self.challenges != previous:
                    self._keep_alive()

    def _keep_alive(self) -> None:
        """Send a keep-alive request."""
        with contextlib.suppress(OSError):
            self._send(self.keepalive_method, self.control, {})

    def _send_receiver_report(self) -> None:
        data = receiver_report()
        with contextlib.suppress(OSError):
            if not self.udp:
                self.socket.sendall(b"$" + bytes([self.channel + 1]) + len(data).to_bytes(2, "big") + data)
            elif self.rtcp_address:
                self.udp[1].sendto(data, self.rtcp_address)

    def close(self) -> None:
        """Send TEARDOWN without waiting for the response, and close the sockets."""
        with contextlib.suppress(OSError):
            if self.id:
                self.socket.settimeout(0.2)
                self._send("TEARDOWN", self.control, {})
        for open_socket in (self.socket, *self.udp):
            open_socket.close()


def _joined(base: str, control: str) -> str:
    """Return a control URL: cameras mean a relative one after the base, not next to it as RFC 3986 does."""
    if "://" in control:
        return control
    if control in ("", "*"):
        return base
    return f"{base}{'' if base.endswith('/') else '/'}{control}"
