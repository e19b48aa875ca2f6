"""The page's HTTP server: uvicorn in a thread, with limits on connections, that stops at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import EdgemtlError
from .address import is_loopback_host, parse_address
from .app import App
from .connections import Connections, Limits
from .guard import Guard
from .reply import Route

BACKLOG = 512
STOP_TIMEOUT_S = 3.0
"""A server that has not stopped by then is left to its daemon thread."""
LOG = logging.getLogger("edgemtl_runtime.sink.web.http")
LOG.setLevel(logging.ERROR)  # what clients do wrong is not for the terminal, which belongs to the run


class BoundedProtocol(H11Protocol):
    """A connection of uvicorn's whose requests and responses are bounded in bytes and time by ``bounds``."""

    bounds: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count the connection, and have every response waited for until the client has received it."""
        super().connection_made(transport)
        self.logger, self.access_log = LOG, False  # requests may hold the token
        transport.set_write_buffer_limits(high=0)
        if self.client is None:  # it closed before it was accepted
            transport.abort()
        else:
            self.bounds.open(self.client, transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what belongs to a request of allowed length."""
        if self.client is not None and self.bounds.receive(self.client, len(data)):
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the connection's slot."""
        super().connection_lost(exc)
        if self.client is not None:
            self.bounds.close(self.client)


class Server:
    """Serves ``routes`` at ``address`` in a thread until `stop`; raises `EdgemtlError` where it cannot.

    ``watched`` are the routes whose responses wait for a result. A host that is not loopback needs a token.
    """

    def __init__(
        self,
        address: str,
        token: str,
        routes: Mapping[str, Route],
        watched: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.host, port = parse_address(address)
        if not token and not is_loopback_host(self.host):
            raise EdgemtlError(f"--serve {address}: others could watch the cameras there; give --token TOKEN")
        self.socket = _listen(address, self.host, port)
        self.address: tuple[str, int] = self.socket.getsockname()[:2]
        self.connections = Connections(limits or Limits())
        protocol = type("PageProtocol", (BoundedProtocol,), {"bounds": self.connections})
        config = uvicorn.Config(
            App(routes, watched, Guard(token), self.connections),
            http=protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            workers=1,
            proxy_headers=False,
            server_header=False,
            headers=[("server", "edgemtl")],
            backlog=BACKLOG,
        )
        self.uvicorn = uvicorn.Server(config)
        self.loop: asyncio.AbstractEventLoop | None = None
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="web", daemon=True)
        self.thread.start()
        started.wait()

    @property
    def url(self) -> str:
        """The URL to open; where all interfaces are served, with this machine's name as host."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.address[1]}/"

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the event loop's thread; once the server has stopped, not at all."""
        assert self.loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function)

    def stop(self, grace_s: float = 0.3) -> None:
        """Accept no more connections, and abort those that have not ended after ``grace_s``."""
        self.call_soon(lambda: self._begin_stop(grace_s))
        self.thread.join(STOP_TIMEOUT_S)

    async def _serve(self, started: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        started.set()
        await self.uvicorn.serve(sockets=[self.socket])
        self.connections.abort_all()

    def _begin_stop(self, grace_s: float) -> None:
        self.uvicorn.should_exit = True
        asyncio.get_running_loop().call_later(grace_s, self._force_stop)

    def _force_stop(self) -> None:
        self.uvicorn.force_exit = True
        self.connections.abort_all()


def _listen(address: str, host: str, port: int) -> socket.socket:
    """Return a listening socket; without a look-up of this machine's name, which may take seconds on a robot."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EdgemtlError(f"--serve {address}: cannot be served ({error.strerror}); give another HOST:PORT") from error
    return listener
