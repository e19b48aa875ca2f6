"""Limits on connections: those whose request is incomplete, those being answered, and those waiting for a result.

Each state has slots of its own: clients that open connections and send nothing take no slot from those that ask, and a
crowd of viewers takes none from a request for the state of the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

Client = tuple[str, int]
"""Host and port of a connection's other end."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the server on connections, bytes and seconds."""

    max_new: int = 256
    """Connections opened within ``settle_s``; one more aborts the oldest."""
    max_pending: int = 64
    """Older connections without a complete request; one more aborts the oldest, preferably one that sent nothing."""
    max_watching: int = 256
    """Connections that wait for a result at once; one more is answered 503."""
    max_active: int = 256 + 64
    """Connections being answered; one more aborts the oldest, preferably one that does not watch."""
    max_request_bytes: int = 8192
    """Bytes of one request, with headers and body."""
    settle_s: float = 0.1
    """A new connection is left alone for so long, so that a request that it brings is read however many others come."""
    request_timeout_s: float = 2.0
    """From a connection's opening or its last response to its next complete request: bounds slow senders."""
    response_timeout_s: float = 15.0
    """From a complete request to the end of its response."""
    send_timeout_s: float = 5.0
    """For the client to receive the whole response."""
    poll_timeout_s: float = 2.0
    """A request for the latest result is answered after so long at most."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) <= 0:
            raise ValueError(f"every limit is above 0: {self}")


@dataclass(eq=False)
class Connection:
    """One open connection: its transport, the timer that aborts it, and the task that answers its request."""

    transport: asyncio.WriteTransport
    timer: asyncio.TimerHandle | None = None
    request_bytes: int = 0
    task: asyncio.Task[object] | None = field(default=None, repr=False)

    def set_timeout(self, seconds: float, expire: Callable[[], object] | None = None) -> None:
        """Call ``expire``, which aborts the connection by default, after so long; replaces an earlier time-out."""
        self.clear_timeout()
        self.timer = asyncio.get_running_loop().call_later(seconds, expire or self.transport.abort)

    def clear_timeout(self) -> None:
        """Cancel the time-out."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Connections:
    """All open connections by state, within ``limits``; used in the event loop's thread alone."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.new: dict[Client, Connection] = {}  # dictionaries keep the order of insertion: the oldest is first
        self.pending: dict[Client, Connection] = {}
        self.active: dict[Client, Connection] = {}
        self.watching: set[Client] = set()

    def __len__(self) -> int:
        return sum(map(len, self._states))

    @property
    def _states(self) -> tuple[dict[Client, Connection], ...]:
        return self.new, self.pending, self.active

    def open(self, client: Client, transport: asyncio.WriteTransport) -> None:
        """Add a new connection, whose request is still to come."""
        while len(self.new) >= self.limits.max_new:
            self._abort(next(iter(self.new)))
        connection = self.new[client] = Connection(transport)
        connection.set_timeout(self.limits.settle_s, lambda: self._await_request(client, self.new.pop(client)))

    def receive(self, client: Client, size: int) -> bool:
        """Count received bytes; aborts the connection and returns False where its request is too long."""
        connection = self._find(client)
        if connection is None:
            return False
        connection.request_bytes += size
        if connection.request_bytes <= self.limits.max_request_bytes:
            return True
        connection.transport.abort()
        return False

    def begin(self, client: Client, task: asyncio.Task[object] | None) -> None:
        """Mark a connection's request as complete; ``task`` answers it, and is cancelled when the client closes."""
        connection = self.new.pop(client, None) or self.pending.pop(client, None)
        if connection is None:  # aborted in the meantime
            if task is not None:
                task.cancel()
            return
        while len(self.active) >= self.limits.max_active:
            self._abort(next((c for c in self.active if c not in self.watching), next(iter(self.active))))
        connection.task, connection.request_bytes = task, 0
        connection.set_timeout(self.limits.response_timeout_s)
        self.active[client] = connection

    def watch(self, client: Client) -> bool:
        """Take a slot among those that wait for a result; return whether there was one."""
        if len(self.watching) >= self.limits.max_watching:
            return False
        self.watching.add(client)
        return True

    def begin_sending(self, client: Client) -> None:
        """Bound the time in which a client receives its response."""
        if connection := self.active.get(client):
            connection.set_timeout(self.limits.send_timeout_s)

    def end(self, client: Client) -> None:
        """Mark a response as sent: the connection is kept alive for another request."""
        self.watching.discard(client)
        if connection := self.active.pop(client, None):
            connection.task = None
            self._await_request(client, connection)

    def close(self, client: Client) -> None:
        """Remove a closed connection, and cancel what is done for it."""
        self.watching.discard(client)
        connection = self._find(client)
        if connection is None:
            return
        for state in self._states:
            state.pop(client, None)
        connection.clear_timeout()
        if connection.task is not None:
            connection.task.cancel()

    def abort_all(self) -> None:
        """Abort every connection."""
        for client in [client for state in self._states for client in state]:
            self._abort(client)

    def _await_request(self, client: Client, connection: Connection) -> None:
        while len(self.pending) >= self.limits.max_pending:
            silent = (c for c, other in self.pending.items() if not other.request_bytes)
            self._abort(next(silent, next(iter(self.pending))))
        connection.set_timeout(self.limits.request_timeout_s)
        self.pending[client] = connection

    def _find(self, client: Client) -> Connection | None:
        return next((state[client] for state in self._states if client in state), None)

    def _abort(self, client: Client) -> None:
        """Free a connection's slot at once; its task ends as if the client had closed."""
        if connection := self._find(client):
            connection.transport.abort()
            self.close(client)
