"""What SIGINT, SIGTERM and SIGHUP do to a command, at each of its stages."""

from __future__ import annotations

import os
import signal
import threading

TYPE_CHECKING = False
"""As `typing` has it, which takes long to import: until signals are taken care of, Ctrl-C is a traceback."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers
    H = TypeVar("H", bound="Handlers")
    T = TypeVar("T")

NUMBERS = tuple({signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)})


class Handlers:
    """While it lasts, signals go to a handler, and afterwards to where they went before.

    Those that are ignored stay so, as `nohup` and a shell's background want it; in other threads than the main one
    nothing is changed, since Python cannot.
    """

    def __init__(self, numbers: tuple[int, ...], handler: Handler) -> None:
        self._numbers, self._handler = numbers, handler
        self._before: dict[int, Handler | None] = {}

    def __enter__(self: H) -> H:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                if (before := signal.getsignal(number)) is not signal.SIG_IGN:
                    signal.signal(number, self._handler)
                    self._before[number] = before
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to who had them."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class DefaultSignals(Handlers):
    """A signal ends the program at once and without a word, as long as there is nothing to lose by it.

    A handler of Python's would wait until a library returns, and raise in the middle of imports, where libraries make
    other errors of it.
    """

    def __init__(self) -> None:
        super().__init__(NUMBERS, signal.SIG_DFL)


def with_default_signals(command: Callable[[T], int]) -> Callable[[T], int]:
    """Let signals end a command at once, as one that only looks and tells has nothing to lose by it."""

    def run(args: T) -> int:
        with DefaultSignals():
            return command(args)

    return run


class Interrupts(Handlers):
    """SIGINT and SIGTERM raise `KeyboardInterrupt`; ``number`` tells which it was, also where a library took that."""

    def __init__(self) -> None:
        super().__init__((signal.SIGINT, signal.SIGTERM), self._take)
        self.number = 0

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt


class Signals(Handlers):
    """All of them call ``stop`` in place of ending the program; a second one ends it.

    They raise nothing: libraries that are opening a camera would swallow it. Ask ``asked`` after each step.
    """

    def __init__(self) -> None:
        super().__init__(NUMBERS, self._take)
        self.asked = False
        self.stop: Callable[[], None] = lambda: None

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        self.stop()
