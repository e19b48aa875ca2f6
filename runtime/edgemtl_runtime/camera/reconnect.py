"""Reconnection: a device or stream that is opened again when it fails, with exponential back-off and jitter."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..errors import CameraError, UsageError
from ..frame import Frame
from .base import NO_EVENTS, CameraBase, CameraEvents

FIRST_S, LONGEST_S = 0.1, 0.8
"""Waits between attempts: each is twice the one before, less a random part of up to half of it."""
STEADY_S = 5.0
"""A source that has delivered for so long is opened again soon; one that fails sooner continues the back-off."""


class Reconnecting(CameraBase):
    """Frames of a live camera that is opened again, with growing waits, until it is back or closed.

    Frame indices continue; the event "lost" reports why. While the camera is lost there are no frames. The first
    opening raises `CameraError`, except with ``wait``.
    """

    live = True
    owns_images = True  # as every device and stream of this package does

    def __init__(self, name: str, opener: Callable[[], CameraBase], wait: bool = False) -> None:
        self.name, self.opener = name, opener
        self.closed = threading.Event()
        self.source: CameraBase | None = None
        try:
            self.source = opener()
        except UsageError:
            raise
        except CameraError:
            if not wait:
                raise
        self.uri = self.source.uri if self.source else ""

    @property
    def drops_repeats(self) -> bool:
        """As the camera that is open now."""
        return self.source is not None and self.source.drops_repeats

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield frames until `close`."""
        index, wait_s = 0, FIRST_S
        while not self.closed.is_set():
            reason, finished = "the stream ended", False
            try:
                source = self.source = self.source or self.opener()
                opened_s = time.monotonic()
                for frame in source.frames(events):
                    if self.closed.is_set():
                        break
                    yield replace(frame, index=index)
                    index += 1
                    if time.monotonic() - opened_s > STEADY_S:
                        wait_s = FIRST_S
                finished = source.finished
            except CameraError as error:
                reason = str(error)
            except Exception as error:  # an error of a driver or library is no reason to give the camera up
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._release()
            if self.closed.is_set() or finished:
                return
            events.state_changed("lost", f"{reason}; opening it again")
            self.closed.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, LONGEST_S)

    def close(self) -> None:
        """End the frames."""
        self.closed.set()
        if (source := self.source) is not None:
            source.close()

    def _release(self) -> None:
        source, self.source = self.source, None
        if source is not None:
            source.close()
