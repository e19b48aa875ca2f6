"""Handling of SIGINT, SIGTERM and SIGHUP at each stage of a command."""

from __future__ import annotations

import os
import signal
import threading

TYPE_CHECKING = False
"""As in `typing`, which takes long to import: until signals are handled, Ctrl-C is a traceback."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers
    H = TypeVar("H", bound="Handlers")
    T = TypeVar("T")

NUMBERS = tuple({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Handlers:
    """Context manager that installs a handler for some signals and restores the previous ones.

    Ignored signals stay ignored, as `nohup` and a shell's background jobs need it. Outside of the main thread nothing
    is changed, since Python cannot.
    """

    def __init__(self, numbers: tuple[int, ...], handler: Handler) -> None:
        self._numbers, self._handler = numbers, handler
        self._previous: dict[int, Handler | None] = {}

    def __enter__(self: H) -> H:
        """Install the handler."""
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                if (previous := signal.getsignal(number)) is not signal.SIG_IGN:
                    signal.signal(number, self._handler)
                    self._previous[number] = previous
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class DefaultSignals(Handlers):
    """Signals end the program at once and silently, while it has nothing to lose.

    A handler in Python would run only after a library call returns, and raise in the middle of imports, where libraries
    turn it into other errors.
    """

    def __init__(self) -> None:
        super().__init__(NUMBERS, signal.SIG_DFL)


def with_default_signals(command: Callable[[T], int]) -> Callable[[T], int]:
    """Decorate a command that only reads and prints: signals end it at once."""

    def run(args: T) -> int:
        with DefaultSignals():
            return command(args)

    return run


class Interrupts(Handlers):
    """SIGINT and SIGTERM raise `KeyboardInterrupt`; ``number`` is the signal's, even where a library caught that."""

    def __init__(self) -> None:
        super().__init__((signal.SIGINT, signal.SIGTERM), self._interrupt)
        self.number = 0

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt


class Signals(Handlers):
    """Graceful stop: the first signal calls ``stop``, a second one ends the program.

    Nothing is raised: libraries that are opening a camera would swallow it. Check ``stop_requested`` after each step.
    """

    def __init__(self) -> None:
        super().__init__(NUMBERS, self._request_stop)
        self.stop_requested = False
        self.stop: Callable[[], None] = lambda: None

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stop_requested = True
        self.stop()
