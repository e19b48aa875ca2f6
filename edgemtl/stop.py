"""Ctrl-C, SIGTERM and a terminal that closes while a training runs: no step is cut in two, its state can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from . import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """A context manager that hears the signals; a second one ends the process's work wherever it is.

    Several processes that learn together stop behind the same step, whichever of them was told.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._whole = distributed.world_size() > 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN and before is not None:  # ignored: somebody else's to hear
                    self._before[number] = before
                    signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if not self._whole or self.asked is not None:
            self._end(number, frame)
        self.asked = number

    def _end(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        raise KeyboardInterrupt

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done inside is done whole; a signal is answered behind it."""
        outside, self._whole = self._whole, True
        try:
            yield
        finally:
            self._whole = outside
        if not outside:
            self.answer()

    def answer(self) -> None:
        """End the work if a signal came; every process must come by here behind each step."""
        asked = self.asked is not None
        if distributed.world_size() > 1:
            asked = bool(distributed.all_reduce([torch.tensor([float(asked)])])[0])
        if asked:
            self._end(self.asked or signal.SIGTERM, None)
