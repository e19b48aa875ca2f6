"""Iteration over what cameras deliver: by a loop, by `read` with a time-out, or in asyncio; and how it ends."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from .capture import Capture, NoPair
from .errors import EdgemtlError

POLL_S = 1.0
"""Time-out of one wait for a pair in the thread of an asynchronous loop."""
T = TypeVar("T")
R = TypeVar("R", bound="Reading[Any]")
log = logging.getLogger("edgemtl_runtime")


class Reading(ABC, Generic[T]):
    """Iterator over what a capture's cameras deliver, once: cameras that have been read are closed.

    Best used by ``with``; one that is dropped while it is read ends as by `close`. The cameras start with the first
    reading. Any thread may `read`, one does at a time; any thread may `close`, and `stop` is also for signal handlers.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self._lock = threading.RLock()
        self._looped = self._closed = self._entered = False
        weakref.finalize(self, capture.close_started)

    @abstractmethod
    def _next(self, timeout_s: float | None) -> T | None:
        """Return what comes next, None at the end; raises `NoPair` where no pair comes in time."""

    @property
    def running(self) -> bool:
        """Whether the cameras are being read."""
        return self.capture.started and not self.capture.closed

    def read(self, timeout_s: float | None = None) -> T | None:
        """Return what comes next, None when the cameras have ended or `stop` was called.

        Raises `TimeoutError` where no pair has come after ``timeout_s`` seconds; read on as you like. What a camera,
        the engine or a callback raises ends the reading.
        """
        if timeout_s is not None and not 0 <= timeout_s < threading.TIMEOUT_MAX:
            raise EdgemtlError(f"timeout_s is {timeout_s}; give seconds, 0 or more, or None to wait for ever")
        if self._closed:
            raise EdgemtlError(f"this {self._type_name} is closed; open the cameras again and make another")
        return self._read(timeout_s)

    def __iter__(self) -> Iterator[T]:
        """Yield what comes until the cameras end or `stop` is called; leaving the loop closes."""
        self._begin_loop()
        try:
            while not self._closed and (item := self._read(None)) is not None:
                yield item
        finally:
            self._end()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield what comes; cameras and network run in other threads. Leaving or cancelling the loop closes."""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        self._begin_loop()
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "read")
        try:
            while not self._closed:
                try:  # not for ever: an abandoned loop must not keep the program from ending
                    item = await loop.run_in_executor(thread, self._read, POLL_S)
                except NoPair:
                    continue
                if item is None:
                    break
                yield item
        finally:
            self.stop()
            if loop.is_running():
                ending = loop.run_in_executor(thread, self._end)  # after the reading in progress
                thread.shutdown(wait=False)
                await ending
            else:  # the loop was abandoned, and the program may be ending
                self._end()

    def stop(self) -> None:
        """End the reading after the item in progress."""
        self.capture.stopped = True

    def close(self) -> None:
        """End the reading: threads are joined and the cameras closed. May be called twice, and in a loop.

        Raises what a callback raised since the last reading.
        """
        self._closed = True
        self.capture.close()
        self.capture.events.raise_error()

    def __enter__(self: R) -> R:
        """Return itself."""
        self._entered = True
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        """Close; an error in flight is propagated."""
        self._entered = False
        if error_type is None:
            self.close()
        else:
            self._end()

    @property
    def _type_name(self) -> str:
        return type(self).__name__.lower()

    def _begin_loop(self) -> None:
        """Raise `EdgemtlError` where a loop was begun before, or nothing is left to read."""
        if self._closed or self.capture.closed:
            raise EdgemtlError(f"this {self._type_name} is used up; open the cameras again and make another")
        if self._looped:
            raise EdgemtlError(f"this {self._type_name} is being read by another loop; read it in one")
        self._looped = True

    def _read(self, timeout_s: float | None) -> T | None:
        started_s = time.monotonic()
        if not self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise NoPair(f"another thread has read for {timeout_s:g} s")
        try:
            left_s = None if timeout_s is None else max(0.0, started_s + timeout_s - time.monotonic())
            item = self._next(left_s)
        except NoPair:
            raise NoPair(f"no pair for {timeout_s:g} s") from None
        except Exception:
            self.capture.close()
            raise
        finally:
            self._lock.release()
        if item is None:
            self.capture.close()
            self.capture.events.raise_error()
        return item

    def _end(self) -> None:
        """Close; what a callback has raised is kept for `close`, or logged where nobody will call that."""
        self._closed = True
        self.capture.close()
        if self.capture.events.error is not None and not self._entered:
            log.error("a callback raised %r", self.capture.events.error)
