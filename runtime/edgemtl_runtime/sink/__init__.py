"""Sinks: where results go. One file each; a thread of its own keeps a slow one from holding up the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

from ..frame import FramePair
from ..result import Result

DEPTH = 8
"""Results that may wait for a sink."""


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


class SinkThread:
    """Runs a sink beside the pipeline; what it cannot take in time is told to ``drop`` (sink, cause).

    With ``waits`` nothing is dropped: the pipeline waits for it, as recordings can.
    """

    def __init__(self, sink: Sink, waits: bool, drop: Callable[[str, str], None]) -> None:
        self.sink, self.waits, self.drop = sink, waits, drop
        self.waiting: queue.Queue[tuple[FramePair, Result] | None] = queue.Queue(maxsize=DEPTH)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.thread.start()

    def put(self, pair: FramePair, result: Result) -> None:
        """Hand over one result."""
        try:
            self.waiting.put((pair, result), block=self.waits)
        except queue.Full:
            self.drop(self.sink.name, "too slow")

    def _run(self) -> None:
        while (item := self.waiting.get()) is not None:
            if self.error is not None:
                self.drop(self.sink.name, "failed")
                continue
            try:
                self.sink.write(*item)
            except Exception as error:  # told to the pipeline's thread, which ends the run or leaves the sink out
                self.error = error
                self.drop(self.sink.name, "failed")

    def close(self) -> None:
        """Write what is waiting, then finish the sink; raises what it raised."""
        self.waiting.put(None)
        self.thread.join()
        self.sink.close()
        if self.error:
            raise self.error

    def abandon(self) -> None:
        """Finish a sink that has failed, as far as it lets itself."""
        try:
            self.close()
        except Exception:  # it was told of when it failed
            return
