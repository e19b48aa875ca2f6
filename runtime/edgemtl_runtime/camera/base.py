"""The camera interface: what a custom camera has at least, and the base class that states all a camera can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from ..camera_state import State
from ..errors import CameraError, flag
from ..frame import Frame
from .clock import Pace


class Camera(Protocol):
    """The least that a custom camera is: a source of frames, which is read once.

    ``live`` sources do not wait: what is not taken in time is lost. `frames` is run by one thread, `close` is called
    by another. Images of a minimal camera are copied as they come, unless it states ``owns_images = True``: each
    image is a new array, which it never writes into again. It may also state ``rate`` and ``drops_repeats`` as
    `CameraBase` has them. A camera that reports why it is lost, or which frames it drops, derives from `CameraBase`.
    """

    name: str
    live: bool

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends; raises `CameraError` when it fails."""
        ...

    def close(self) -> None:
        """Release the source; may be called twice, and from another thread."""
        ...


class CameraEvents:
    """Receives what a camera reports besides its frames; this one ignores it."""

    def state_changed(self, state: State, detail: str) -> None:
        """Take a new state and its reason: a lost camera that is about to be opened again."""

    def frame_dropped(self, cause: str) -> None:
        """Take the cause for which a captured frame cannot be delivered, such as a corrupt packet."""


NO_EVENTS = CameraEvents()


class CameraBase(ABC):
    """All that a camera can do, with defaults. Every camera and wrapper of this package derives from it.

    ``name`` is the network input that it feeds, ``uri`` its address without secrets, ``live`` whether it is a device or
    stream (otherwise a recording). ``owns_images``: each image is a new array. ``rate`` is in frames a second, 0 where
    it is unknown. How a stamp was made is each frame's `Frame.stamp_source`.
    """

    name: str
    live: bool = False
    uri: str = ""
    owns_images: bool = False
    rate: float = 0.0

    @property
    def label(self) -> str:
        """The camera as it is given on the command line, for messages."""
        return flag(self.name, self.uri)

    @property
    def drops_repeats(self) -> bool:
        """Whether an image equal to the one before is a repeated one: sensor values are never that equal, codecs' are.

        Asked for every frame: a device may be opened late.
        """
        return False

    @property
    def finished(self) -> bool:
        """Whether the source has reached its end, so that it is not to be opened again."""
        return False

    @property
    def unwrapped(self) -> Camera:
        """The camera that this one wraps, itself where it wraps none."""
        return self

    def start(self, now_ns: int) -> None:
        """Begin playback at a time of the monotonic clock, nanoseconds; live cameras ignore it."""
        return

    @abstractmethod
    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield frames until the source ends and report the rest to ``events``; raises `CameraError` when it fails."""

    @abstractmethod
    def close(self) -> None:
        """Release the source; may be called twice, and from another thread."""


class LiveCamera(CameraBase):
    """A device or stream that is open; the reading thread releases it, or `close` where nothing has read it."""

    live = True
    owns_images = True

    def __init__(self, name: str, uri: str) -> None:
        self.name, self.uri = name, uri
        self.events = NO_EVENTS
        self.closed = self.reading = False

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield frames as they arrive; raises `CameraError` when the source stops."""
        self.events, self.reading = events, True
        try:
            yield from self._frames()
        finally:
            self._release()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield frames until ``closed``."""

    @abstractmethod
    def _release(self) -> None:
        """Release the device or connection."""

    def close(self) -> None:
        """Stop at the next frame or time-out; the reading thread, where there is one, releases the source."""
        self.closed = True
        if not self.reading:
            self._release()


class PlaybackCamera(CameraBase):
    """A recording or test pattern that is played back at a `Pace`, from a common `Epoch`."""

    owns_images = True
    pace: Pace

    def start(self, now_ns: int) -> None:
        """Begin playback now, however long ago the recording was opened."""
        self.pace.epoch.now_ns = now_ns

    def close(self) -> None:
        """Stop the reading."""
        self.pace.closed = True


def checked_size(frames: Iterator[Frame], describe: Callable[[Frame], str]) -> Iterator[Frame]:
    """Pass frames on while they keep the size of the first; raises `CameraError` when one does not."""
    size: tuple[int, int] | None = None
    for frame in frames:
        size = size or frame.size
        if frame.size != size:
            raise CameraError(
                f"{describe(frame)}: is {frame.size[1]}x{frame.size[0]}, the stream began with {size[1]}x{size[0]}; "
                "give images of one size"
            )
        yield frame
