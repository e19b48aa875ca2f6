"""Sinks, the outputs of a run: one module each; each runs in a thread, so that a slow one does not delay inference."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result

QUEUE_SIZE = 8
"""Results that wait for a sink at the most."""
CLOSE_S = 8.0
"""Time limit for all sinks together to write their queues and finish; a slower one is abandoned."""


class Sink(Protocol):
    """Takes results in order; ``close`` finishes the file or connection."""

    name: str
    on_main_thread: bool

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one result."""
        ...

    def close(self) -> None:
        """Finish the file or the connection."""
        ...


class InlineSink:
    """Runs a sink in the pipeline's thread; after a failure it gets no more results, and ``error`` has the reason."""

    def __init__(self, sink: Sink, drop: Callable[[str, str], None]) -> None:
        self.sink, self.drop = sink, drop
        self.error: BaseException | None = None

    def put(self, pair: FramePair, result: Result) -> None:
        """Pass one result on."""
        try:
            self.sink.write(pair, result)
        except Exception as error:
            self.error = error
            self.drop(self.sink.name, "failed")

    def begin_close(self) -> None:
        """Start to finish the sink; in its own thread where it has one."""
        try:
            self.sink.close()
        except Exception as error:
            self.error = self.error or error

    def end_close(self, until_s: float) -> None:
        """Wait for the end until a time of the monotonic clock; raises the sink's error, or one for the timeout."""
        if self.error:
            raise self.error

    def abandon(self) -> None:
        """Finish a failed sink as far as possible."""
        with contextlib.suppress(Exception):  # reported when it failed
            self.begin_close()


class ThreadedSink(InlineSink):
    """Runs a sink in a thread; results beyond `QUEUE_SIZE` are dropped and reported to ``drop`` (sink, cause).

    With ``waits`` nothing is dropped: the pipeline waits, as with recordings, until ``stopped``.
    """

    def __init__(
        self, sink: Sink, waits: bool, drop: Callable[[str, str], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(sink, drop)
        self.waits, self.stopped = waits, stopped
        self.queue: deque[tuple[FramePair, Result]] = deque()
        self.changed = threading.Condition()
        self.is_ending = False
        self.thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.thread.start()

    def put(self, pair: FramePair, result: Result) -> None:
        """Pass one result on."""
        with self.changed:
            while len(self.queue) >= QUEUE_SIZE:
                if not self.waits or self.stopped():
                    self.drop(self.sink.name, "too slow")
                    return
                self.changed.wait(0.2)
            self.queue.append((pair, result))
            self.changed.notify_all()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            if self.error is not None:
                self.drop(self.sink.name, "failed")
                continue
            try:
                self.sink.write(*item)
            except BaseException as error:  # the pipeline's thread ends the run or drops the sink
                self.error = error
                self.drop(self.sink.name, "failed")
        super().begin_close()

    def _next(self) -> tuple[FramePair, Result] | None:
        """Return the oldest waiting result; None at the end."""
        with self.changed:
            while not self.queue and not self.is_ending:
                self.changed.wait()
            self.changed.notify_all()
            return self.queue.popleft() if self.queue else None

    def begin_close(self) -> None:
        """Start to write the queue and finish the sink, in the sink's thread."""
        with self.changed:
            self.is_ending = True
            self.changed.notify_all()

    def end_close(self, until_s: float) -> None:
        """Wait for the end until a time of the monotonic clock; raises the sink's error, or one for the timeout."""
        self.thread.join(max(until_s - time.monotonic(), 0.0))
        if self.thread.is_alive():
            with self.changed:
                for _ in range(len(self.queue)):
                    self.queue.popleft()
                    self.drop(self.sink.name, "too slow")
            raise EdgemtlError(f"sink {self.sink.name}: did not end within {CLOSE_S:g} s; it was not finished")
        super().end_close(until_s)


def close_all(used: Sequence[InlineSink]) -> list[BaseException]:
    """Finish all sinks at the same time, within `CLOSE_S` together, and return their errors."""
    until_s = time.monotonic() + CLOSE_S
    errors: list[BaseException] = []
    inline_last = sorted(used, key=lambda sink: not isinstance(sink, ThreadedSink))  # they would delay the threads
    for sink in inline_last:
        sink.begin_close()
    for sink in used:
        try:
            sink.end_close(until_s)
        except BaseException as error:
            errors.append(error)
    return errors
