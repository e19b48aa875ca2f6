"""Signals during a training: SIGINT, SIGTERM and SIGHUP stop it between two steps, so that its state can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from . import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object] | int


class Stop:
    """A context manager that defers signals to the end of a step; a second signal interrupts the step.

    Several processes that train together stop after the same step, whichever of them got the signal.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferring = distributed.world_size() > 1
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                previous = signal.getsignal(signum)
                if previous is not signal.SIG_IGN and previous is not None:  # what was ignored stays ignored
                    self._previous[signum] = previous
                    signal.signal(signum, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if not self._deferring or self.received is not None:
            self._interrupt(signum, frame)
        self.received = signum

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        previous = self._previous.get(signum)
        if callable(previous):
            previous(signum, frame)
        raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer a signal to the end of the block."""
        outer, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = outer
        if not outer:
            self.check()

    def check(self) -> None:
        """Interrupt the training if any process received a signal; every process must call this after each step."""
        received = self.received is not None
        if distributed.world_size() > 1:
            received = bool(distributed.all_reduce([torch.tensor([float(received)])])[0])
        if received:
            self._interrupt(self.received or signal.SIGTERM, None)
