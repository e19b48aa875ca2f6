"""Sinks: where results go. One file each; a thread of its own keeps a slow one from holding up the network."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result

DEPTH = 8
"""Results that may wait for a sink."""
CLOSE_S = 10.0
"""A sink that takes longer to write what waits is not waited for."""


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


class SinkHere:
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

    def close(self) -> None:
        """Finish the sink; raises what it raised."""
        self.sink.close()
        if self.error:
            raise self.error

    def abandon(self) -> None:
        """Finish a sink that has failed, as far as it lets itself."""
        with contextlib.suppress(Exception):  # it was told of when it failed
            self.close()


class SinkThread(SinkHere):
    """Runs a sink beside the pipeline; what it cannot take in time is told to ``drop`` (sink, cause).

    With ``waits`` nothing is dropped: the pipeline waits for it, as recordings can, until ``stopped``.
    """

    def __init__(
        self, sink: Sink, waits: bool, drop: Callable[[str, str], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(sink, drop)
        self.waits, self.stopped = waits, stopped
        self.waiting: queue.Queue[tuple[FramePair, Result] | None] = queue.Queue(maxsize=DEPTH)
        self.thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.thread.start()

    def put(self, pair: FramePair, result: Result) -> None:
        """Hand over one result."""
        while True:
            try:
                self.waiting.put((pair, result), block=self.waits, timeout=0.2)
                return
            except queue.Full:
                if not self.waits or self.stopped():
                    self.drop(self.sink.name, "too slow")
                    return

    def _run(self) -> None:
        while (item := self.waiting.get()) is not None:
            if self.error is not None:
                self.drop(self.sink.name, "failed")
                continue
            try:
                self.sink.write(*item)
            except BaseException as error:  # told to the pipeline's thread, which ends the run or leaves the sink out
                self.error = error
                self.drop(self.sink.name, "failed")

    def close(self) -> None:
        """Write what is waiting, then finish the sink; raises what it raised, or that it does not end."""
        with contextlib.suppress(queue.Full):
            self.waiting.put(None, timeout=CLOSE_S)
        self.thread.join(CLOSE_S)
        if self.thread.is_alive():
            raise EdgemtlError(f"sink {self.sink.name}: has taken nothing for {CLOSE_S:g} s; it was not finished")
        super().close()
