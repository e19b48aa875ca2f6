"""Event log: the latest events are kept, and each is logged and passed to a listener in a separate thread."""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable

from .camera_state import Event
from .text import printable

KEPT = 200
"""Number of the latest events that are kept."""
MAX_WAITING = 1000
"""Events that may wait for a slow listener; any further one is kept and not delivered."""
CLOSE_S = 3.0
"""Time that a listener has at the end for the events that wait."""
WARNING_STATES = ("warning", "bundle", "lost", "stale")
Listener = Callable[[Event], object]
log = logging.getLogger("edgemtl_runtime")


class EventLog:
    """Keeps events and delivers them to a listener, in order and outside of all locks: a slow one blocks nobody.

    ``recent`` and ``warnings`` are the latest; any thread may `put`. What the listener raises is kept as ``error`` for
    the thread that reads the results, and ends the delivery.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self.warnings: deque[Event] = deque(maxlen=KEPT)
        self.listener = listener
        self.error: BaseException | None = None
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._started = self._closed = False

    def put(self, event: Event) -> None:
        """Take an event; never blocks. After `close` it is kept and logged, and not delivered."""
        (self.warnings if event.state == "warning" else self.recent).append(event)
        if self._closed:
            _log(event)
        elif self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(event)

    def start(self) -> None:
        """Start the delivery."""
        if not self._started and not self._closed:
            self._started = True
            self._thread = threading.Thread(target=self._deliver, name="events", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Deliver what waits, and end; may be called twice, and by the listener itself."""
        self._closed = True
        self._waiting.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # of two that close at once, the other has joined it
                thread.join(CLOSE_S)
            if thread.is_alive():
                log.warning("the listener of events has not returned for %g s; the rest is not delivered", CLOSE_S)
        self._thread = None

    def raise_error(self) -> None:
        """Raise what the listener raised, once."""
        raise_once(self._take_error())

    def _take_error(self) -> BaseException | None:
        error, self.error = self.error, None
        return error

    def _deliver(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                _log(event)
                if self.listener is not None:
                    self.listener(event)
            except BaseException as error:  # handed to the thread that reads the results
                self.listener, self.error = None, error
        self.listener = None


def _log(event: Event) -> None:
    log.log(logging.WARNING if event.state in WARNING_STATES else logging.INFO, "%s", event)


def raise_once(error: BaseException | None) -> None:
    """Raise an error where there is one; no variable keeps it, or its traceback would hold on to itself."""
    try:
        if error is not None:
            raise error
    finally:
        del error


class StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # no generic at run time in Python 3.10
    """Log handler that writes to the present `sys.stderr`: a program that runs a command twice may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line of log."""
        self.stream = sys.stderr
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return one line: a camera's own words may hold what moves a terminal's cursor."""
        return printable(super().format(record))
