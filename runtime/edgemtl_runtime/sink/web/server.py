"""A small HTTP server for one page: bounded, guarded by a token or by the Host header, told to stop at any time."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from ...errors import EdgemtlError
from .places import Places

IO_TIMEOUT_S = 5.0
"""A client that neither sends nor takes anything for so long is cut off."""
LONGEST_REQUEST = 8192
"""Bytes of a request's line and headers."""
BACKLOG = 512
POLL_S = 0.05
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every answer (RFC 9111, CSP level 3, Fetch); the page brings a policy of its own."""


@dataclass(frozen=True)
class Reply:
    """An answer: ``code`` is the HTTP status, ``kind`` the media type of ``body``."""

    code: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    tail: bytes = b""
    """What follows ``body``, which many answers may share."""

    def __post_init__(self) -> None:
        if not 200 <= self.code < 600:
            raise ValueError(f"no HTTP status: {self.code}")

    @classmethod
    def line(cls, code: int, text: str, **headers: str) -> Reply:
        """Return an answer of text that ends in a newline; underscores in a header's name stand for hyphens."""
        return cls(code, f"{text}\n".encode(), headers={name.replace("_", "-"): v for name, v in headers.items()})


Route = Callable[[dict[str, str]], Reply]
"""Answers a GET request by its query's values, the last of each name."""


def parse_address(address: str) -> tuple[str, int]:
    """Read "HOST:PORT", ":PORT" or "PORT" (both on 127.0.0.1), IPv6 hosts in brackets; raises `EdgemtlError`."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):)?([0-9]{1,5})", address)
    if not match or int(match[2]) > 65535:
        raise EdgemtlError(f"--serve {address}: give HOST:PORT or a port from 0 to 65535, as in 127.0.0.1:8080")
    return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


def is_loopback_host(host: str) -> bool:
    """Whether a host is this machine as only this machine sees it: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Who may look: those who have the token; without a token, those who asked for a loopback host.

    The Host header is what a page of another site cannot choose when it lets its own name point to this machine (DNS
    rebinding). The cookie holds a keyed hash of the token, so that any token fits into it.
    """

    def __init__(self, token: str) -> None:
        self.token = token.encode()
        self.digest = hmac.new(self.token, b"edgemtl web cookie", hashlib.sha256).hexdigest()

    def admit(self, handler: BaseHTTPRequestHandler, query: dict[str, str], port: int) -> Reply | None:
        """Return nothing where the request may pass, else the answer to give instead."""
        if not self.token:
            host = re.fullmatch(
                r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?|([^:\[\]]+)(?::[0-9]*)?", handler.headers["Host"] or ""
            )
            if host and is_loopback_host(host[1] or host[2]):
                return None
            return Reply.line(
                403, "this page is for 127.0.0.1 and localhost alone; give --token to serve it by another name"
            )
        if "token" in query:
            if not hmac.compare_digest(query["token"].encode(errors="replace"), self.token):
                return Reply.line(401, "this is not the token", WWW_Authenticate="Bearer")
            cookie = f"{cookie_name(port)}={self.digest}; HttpOnly; SameSite=Strict; Path=/"
            return Reply.line(303, "", Location="/", Set_Cookie=cookie)
        if self._has_token(handler, port):
            return None
        return Reply.line(401, "a token is needed: open the address with ?token=TOKEN", WWW_Authenticate="Bearer")

    def _has_token(self, handler: BaseHTTPRequestHandler, port: int) -> bool:
        scheme, _, given = (handler.headers["Authorization"] or "").partition(" ")
        if scheme.lower() == "bearer":  # header bytes reach us read as Latin-1
            return hmac.compare_digest(given.strip().encode("latin-1", "replace"), self.token)
        try:
            cookies = SimpleCookie(handler.headers["Cookie"] or "")
        except CookieError:
            return False
        mine = cookies.get(cookie_name(port))
        return mine is not None and hmac.compare_digest(mine.value.encode(errors="replace"), self.digest.encode())


def cookie_name(port: int) -> str:
    """Return the cookie's name: cookies do not keep ports of one host apart, names do."""
    return f"edgemtl_{port}"


class Handler(BaseHTTPRequestHandler):
    """Answers one GET request by the server's routes, after the guard; anything else is refused."""

    protocol_version = "HTTP/1.1"
    server_version = "edgemtl"
    sys_version = ""
    timeout = IO_TIMEOUT_S
    server: Server

    def setup(self) -> None:
        """Read no more of a request than it may have."""
        super().setup()
        self.rfile = _Bounded(self.rfile)  # type: ignore[assignment]

    def answer(self) -> None:
        """Answer the request, whatever its method."""
        self.close_connection = True
        path, _, text = self.path.partition("?")
        query = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
        self.server.places.asked(self.connection)
        reply = self.server.guard.admit(self, query, self.server.server_address[1])
        if reply is None and self.command != "GET":
            reply = Reply.line(405, "only GET is answered here", Allow="GET")
        if reply is None and path in self.server.watched and not self.server.places.watch(self.connection):
            reply = Reply.line(503, "too many are watching; try again later", Retry_After="5")
        if reply is None:
            route = self.server.routes.get(path)
            reply = Reply.line(404, "there is no such page") if route is None else self._of(route, query)
        self.send_response(reply.code)
        headers = {
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.body) + len(reply.tail)),
            "Connection": "close",
        }
        for name, value in (SAFE_HEADERS | headers | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
            self.wfile.write(reply.tail)

    def __getattr__(self, name: str) -> Any:
        """Answer every method by `answer`: the base class looks for do_METHOD."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *args: object) -> None:
        """Keep quiet: the terminal belongs to the run."""

    @staticmethod
    def _of(route: Route, query: dict[str, str]) -> Reply:
        try:
            return route(query)
        except Exception as error:  # the run goes on, and the person who looks is told
            return Reply.line(500, f"{type(error).__name__}: {error}")


class _Bounded:
    """The lines of one request."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.left = stream, LONGEST_REQUEST

    def readline(self, limit: int = -1) -> bytes:
        """Return the next line; raises `ConnectionError` where the request is longer than it may be."""
        line: bytes = self.stream.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise ConnectionAbortedError("a request without end")
        return line

    def close(self) -> None:
        """Close what is read from."""
        self.stream.close()


class Server(ThreadingHTTPServer):
    """Serves ``routes`` at ``address`` in threads of its own until `stop`; raises `EdgemtlError` where it cannot.

    Connections are bounded as `places` tells; ``watched`` are the routes whose answers wait for a result. A host that
    is not loopback needs a token.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, address: str, token: str, routes: dict[str, Route], watched: Collection[str] = ()) -> None:
        host, port = parse_address(address)
        if not token and not is_loopback_host(host):
            raise EdgemtlError(f"--serve {address}: others could watch the cameras there; give --token TOKEN")
        self.guard, self.routes = Guard(token), routes
        self.host = host
        self.watched, self.places = frozenset(watched), Places()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise EdgemtlError(
                f"--serve {address}: cannot be served ({error.strerror}); give another HOST:PORT"
            ) from error
        self.thread = threading.Thread(target=self.serve_forever, args=(POLL_S,), name="web", daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """The address to open; that of every interface is told by this machine's name."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name, which may take seconds on a robot."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own; the oldest that has not asked yet makes room for it."""
        self.places.enter(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no more threads
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and give its place free."""
        self.places.leave(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off what has been open for too long; called between requests."""
        self.places.cut_late()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that went away; anything else is a mistake of ours and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def stop(self, grace_s: float = 0.3) -> None:
        """Take no more requests, and cut off what has not ended after ``grace_s``."""
        self.shutdown()
        self.server_close()
        end = time.monotonic() + grace_s
        while self.places and time.monotonic() < end:
            time.sleep(0.01)
        self.places.cut_all()
