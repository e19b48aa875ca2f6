"""Sinks: where results go. One file each; a thread of its own keeps a slow one from holding up the network."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import Protocol

from ..frame import FramePair
from ..result import Result


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
    """Runs a sink beside the pipeline; live results that it cannot take in time are dropped and counted."""

    def __init__(self, sink: Sink, live: bool, drops: Counter[str]) -> None:
        self.sink, self.live, self.drops = sink, live, drops
        self.waiting: queue.Queue[tuple[FramePair, Result] | None] = queue.Queue(maxsize=8)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.thread.start()

    def put(self, pair: FramePair, result: Result) -> None:
        """Hand over one result; raises what the sink itself raised."""
        if self.error:
            raise self.error
        try:
            self.waiting.put((pair, result), block=not self.live)
        except queue.Full:
            self.drops[f"sink {self.sink.name}: too slow"] += 1

    def _run(self) -> None:
        while (item := self.waiting.get()) is not None:
            if self.error is None:
                try:
                    self.sink.write(*item)
                except Exception as error:  # told to the pipeline's thread, which ends the run with it
                    self.error = error

    def close(self) -> None:
        """Write what is waiting, then finish the sink."""
        self.waiting.put(None)
        self.thread.join()
        self.sink.close()
        if self.error:
            raise self.error
