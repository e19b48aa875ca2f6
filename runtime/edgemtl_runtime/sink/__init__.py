"""Sinks: where results go. One file each; a thread of its own keeps a slow one from holding up the network."""

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

DEPTH = 8
"""Results that may wait for a sink."""
CLOSE_S = 8.0
"""All sinks together are given so long to write what waits; one that takes longer is not waited for."""


class Sink(Protocol):
    """Takes results in order; ``close`` finishes what was written."""

    name: str
    on_main_thread: bool

    def write(self, pair: FramePair, result: Result) -> None:
        """Take one result."""
        ...

    def close(self) -> None:
        """Finish the file or the connection."""
        ...


class InlineSink:
    """Runs a sink in the pipeline's own thread; once it has failed it is given nothing more, and ``error`` says why."""

    def __init__(self, sink: Sink, drop: Callable[[str, str], None]) -> None:
        self.sink, self.drop = sink, drop
        self.error: BaseException | None = None

    def put(self, pair: FramePair, result: Result) -> None:
        """Hand over one result."""
        try:
            self.sink.write(pair, result)
        except Exception as error:
            self.error = error
            self.drop(self.sink.name, "failed")

    def begin_close(self) -> None:
        """Have what waits written, and the sink finished; returns at once where it can."""
        try:
            self.sink.close()
        except Exception as error:
            self.error = self.error or error

    def end_close(self, until_s: float) -> None:
        """Wait for that until a moment of the monotonic clock; raises what the sink raised, or that it does not end."""
        if self.error:
            raise self.error

    def abandon(self) -> None:
        """Finish a sink that has failed, as far as it lets itself."""
        with contextlib.suppress(Exception):  # it was told of when it failed
            self.begin_close()


class ThreadedSink(InlineSink):
    """Runs a sink beside the pipeline; what it cannot take in time is told to ``drop`` (sink, cause).

    With ``waits`` nothing is dropped: the pipeline waits for it, as recordings can, until ``stopped``.
    """

    def __init__(
        self, sink: Sink, waits: bool, drop: Callable[[str, str], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(sink, drop)
        self.waits, self.stopped = waits, stopped
        self.waiting: deque[tuple[FramePair, Result]] = deque()
        self.changed = threading.Condition()
        self.is_ending = False
        self.thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.thread.start()

    def put(self, pair: FramePair, result: Result) -> None:
        """Hand over one result."""
        with self.changed:
            while len(self.waiting) >= DEPTH:
                if not self.waits or self.stopped():
                    self.drop(self.sink.name, "too slow")
                    return
                self.changed.wait(0.2)
            self.waiting.append((pair, result))
            self.changed.notify_all()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            if self.error is not None:
                self.drop(self.sink.name, "failed")
                continue
            try:
                self.sink.write(*item)
            except BaseException as error:  # told to the pipeline's thread, which ends the run or leaves the sink out
                self.error = error
                self.drop(self.sink.name, "failed")
        super().begin_close()

    def _next(self) -> tuple[FramePair, Result] | None:
        """Return what waits longest; None at the end."""
        with self.changed:
            while not self.waiting and not self.is_ending:
                self.changed.wait()
            self.changed.notify_all()
            return self.waiting.popleft() if self.waiting else None

    def begin_close(self) -> None:
        """Have what waits written, and the sink finished, both in the sink's thread."""
        with self.changed:
            self.is_ending = True
            self.changed.notify_all()

    def end_close(self, until_s: float) -> None:
        """Wait for that until a moment of the monotonic clock; raises what the sink raised, or that it does not end."""
        self.thread.join(max(until_s - time.monotonic(), 0.0))
        if self.thread.is_alive():
            with self.changed:
                for _ in range(len(self.waiting)):
                    self.waiting.popleft()
                    self.drop(self.sink.name, "too slow")
            raise EdgemtlError(f"sink {self.sink.name}: did not end within {CLOSE_S:g} s; it was not finished")
        super().end_close(until_s)


def close_all(used: Sequence[InlineSink]) -> list[BaseException]:
    """Finish all sinks at the same time, within `CLOSE_S` together, and return what they raised."""
    until_s = time.monotonic() + CLOSE_S
    errors: list[BaseException] = []
    for each in sorted(
        used, key=lambda each: not isinstance(each, ThreadedSink)
    ):  # those here hold up the others' begin
        each.begin_close()
    for each in used:
        try:
            each.end_close(until_s)
        except BaseException as error:
            errors.append(error)
    return errors
