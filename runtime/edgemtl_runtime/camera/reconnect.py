"""A device or stream that is opened again when it fails."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..camera_state import State
from ..errors import CameraError, UsageError
from ..frame import Frame
from . import Camera

FIRST_S, LONGEST_S = 0.1, 0.8
"""The waits between attempts: each is twice the one before, less up to half of it by chance."""
STEADY_S = 5.0
"""A source that has delivered for so long is asked soon when it fails; one that fails sooner waits on."""


class Reopened:
    """Frames of a source that is opened again, with growing waits, until it is back or closed.

    Pictures are numbered on; ``told`` hears that the camera is lost and why. While it is, there are no frames: none is
    made up. The first opening raises `CameraError`, except with ``wait``.
    """

    live = True
    owned_pictures = True  # those of every device and stream of ours are

    def __init__(self, name: str, opener: Callable[[], Camera], wait: bool = False) -> None:
        self.name, self.opener = name, opener
        self.told: Callable[[State, str], None] = lambda state, detail: None
        self.dropped: Callable[[str], None] = lambda cause: None
        self.closed = threading.Event()
        self.source: Camera | None = None
        try:
            self.source = opener()
        except UsageError:
            raise
        except CameraError:
            if not wait:
                raise

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal picture is a repeated one: as what is open now gives them."""
        return bool(getattr(self.source, "drops_repeats", False))

    def frames(self) -> Iterator[Frame]:
        """Yield frames until `close`."""
        index, wait_s = 0, FIRST_S
        while not self.closed.is_set():
            reason, finished = "the stream ended", False
            try:
                source = self.source = self.source or self.opener()
                begun = time.monotonic()
                if hasattr(source, "dropped"):
                    source.dropped = self.dropped
                for frame in source.frames():
                    if self.closed.is_set():
                        break
                    yield replace(frame, index=index)
                    index += 1
                    if time.monotonic() - begun > STEADY_S:
                        wait_s = FIRST_S
                finished = getattr(source, "finished", False)
            except CameraError as error:
                reason = str(error)
            except Exception as error:  # a driver's or a library's own trouble is no reason to do without the camera
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._release()
            if self.closed.is_set() or finished:
                return
            self.told("lost", f"{reason}; opening it again")
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
