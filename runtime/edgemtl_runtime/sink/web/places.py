"""Who is connected: those whose request is still coming, and those who wait for pictures, each with own places.

Somebody who opens connections and sends nothing so takes no place from those who ask, and a crowd that watches takes
none from those who ask how the run is.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

MOST_ASKING = 64
"""Connections whose request is not whole yet; one more cuts off the oldest."""
MOST_WATCHING = 256
"""Connections that wait for a result at once."""
MOST_ANSWERING = MOST_WATCHING + 64
"""Connections that are answered at once; one more cuts off the oldest, which does not take its answer."""
ASKING_S = 2.0
"""A request that takes longer to come is cut off: a trickle of bytes does not hold a place for ever."""
ANSWERING_S = 15.0
"""A connection serves one request, and no longer than this."""


class Places:
    """Every connection with the time it was opened or asked; safe to use from all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asking: dict[socket.socket, float] = {}
        self.answering: dict[socket.socket, float] = {}
        self.watching: set[socket.socket] = set()

    def __len__(self) -> int:
        return len(self.asking) + len(self.answering)

    def enter(self, connection: socket.socket) -> None:
        """Note a new connection; the oldest that has not asked yet makes room for it."""
        with self.lock:
            while len(self.asking) >= MOST_ASKING:
                oldest = next(iter(self.asking))  # a dictionary keeps the order of entering
                del self.asking[oldest]
                _cut(oldest)
            self.asking[connection] = time.monotonic()

    def asked(self, connection: socket.socket) -> None:
        """Note that a connection's request is whole."""
        with self.lock:
            if self.asking.pop(connection, None) is not None:
                while len(self.answering) >= MOST_ANSWERING:
                    idle = (each for each in self.answering if each not in self.watching)
                    oldest = next(idle, next(iter(self.answering)))
                    del self.answering[oldest]
                    _cut(oldest)
                self.answering[connection] = time.monotonic()

    def watch(self, connection: socket.socket) -> bool:
        """Take a place among those who wait for a result; return whether there was one."""
        with self.lock:
            if len(self.watching) >= MOST_WATCHING:
                return False
            self.watching.add(connection)
            return True

    def leave(self, connection: socket.socket) -> None:
        """Give all places of a connection free."""
        with self.lock:
            self.asking.pop(connection, None)
            self.answering.pop(connection, None)
            self.watching.discard(connection)

    def cut_late(self) -> None:
        """Cut off whoever takes too long to ask, or to take the answer."""
        now = time.monotonic()
        with self.lock:
            late = [each for each, since in self.asking.items() if now - since > ASKING_S]
            late += [each for each, since in self.answering.items() if now - since > ANSWERING_S]
            for connection in late:
                _cut(connection)

    def cut_all(self) -> None:
        """Cut off everybody."""
        with self.lock:
            for connection in (*self.asking, *self.answering):
                _cut(connection)


def _cut(connection: socket.socket) -> None:
    """End a connection under the thread that serves it, which then leaves by itself."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
