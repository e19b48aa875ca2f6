"""Events as they come: the latest are kept, and each is logged and told on in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

from .camera_state import Event

KEPT = 200
"""The latest events that are kept."""
WAITING = 1000
"""Events that may wait for a slow listener; what comes beyond is kept and not told."""
CLOSE_S = 3.0
"""How long a listener may take, at the end, for what still waits."""
LOUD = ("warning", "lost", "stale")
Listener = Callable[[Event], object]
log = logging.getLogger("edgemtl_runtime")


class EventLog:
    """Keeps events and tells them to a listener, in order and outside of all locks: a slow one stops nobody.

    ``recent`` and ``warnings`` are the latest; any thread may `put`. What the listener raises is kept as ``error`` for
    who reads the results, and ends the telling.
    """

    def __init__(self, told: Listener | None = None) -> None:
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self.warnings: deque[Event] = deque(maxlen=KEPT)
        self.told = told
        self.error: BaseException | None = None
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._begun = self._closed = False

    def put(self, event: Event) -> None:
        """Take an event; never blocks. After `close` it is kept and logged, and not told."""
        (self.warnings if event.state == "warning" else self.recent).append(event)
        if self._closed:
            _log(event)
        elif self._waiting.qsize() < WAITING:
            self._waiting.put(event)

    def start(self) -> None:
        """Begin to tell."""
        if not self._begun and not self._closed:
            self._begun = True
            self._thread = threading.Thread(target=self._tell, name="events", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Tell what waits, and end; may be called twice, and by the listener itself."""
        self._closed = True
        self._waiting.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # of two that close at once, the other has joined it
                thread.join(CLOSE_S)
            if thread.is_alive():
                log.warning("what events are told to has not returned for %g s; the rest is not told", CLOSE_S)
        self._thread = None

    def raise_error(self) -> None:
        """Raise what the listener raised, once."""
        raise_once(self._take_error())

    def _take_error(self) -> BaseException | None:
        error, self.error = self.error, None
        return error

    def _tell(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                _log(event)
                if self.told is not None:
                    self.told(event)
            except BaseException as error:  # handed to the thread that reads the results
                self.told, self.error = None, error
        self.told = None


def _log(event: Event) -> None:
    log.log(logging.WARNING if event.state in LOUD else logging.INFO, "%s", event)


def raise_once(error: BaseException | None) -> None:
    """Raise an error where there is one; no variable keeps it, or its traceback would hold on to itself."""
    try:
        if error is not None:
            raise error
    finally:
        del error
