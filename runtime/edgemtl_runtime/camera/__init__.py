"""Cameras by URI: a folder, a video file, a device, a stream, or a test pattern.

frames/night            a folder of pictures, in the order of their names, as fast as they are used
frames/night?fps=20     the same, paced like a camera; a frame that comes too late for use is dropped
drive.mp4               a video file; ?fps= paces it too
0                       a camera device by number
rtsp://host/stream      a stream, also http://
pattern:?fps=20         plain moving shapes; ?frames= ends it, ?width= and ?height= size it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

from ..errors import CameraError, nearest_hint
from ..frame import Frame

NOMINAL_FPS = 30.0
"""Rate that the stamps of a folder's pictures run at when none is given."""
Options = dict[str, float]


class Camera(Protocol):
    """A source of frames. ``live`` sources do not wait: what is not taken in time is lost and counted."""

    name: str
    live: bool

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends; raises `CameraError` when it fails."""
        ...

    def close(self) -> None:
        """Release the source; may be called twice, and from another thread."""
        ...


class Pace:
    """Keeps a recorded source at a camera's rate: ``wait`` sleeps until a frame's capture time has come."""

    def __init__(self, epoch_ns: int, fps: float, paced: bool) -> None:
        self.epoch_ns, self.period_ns, self.paced = epoch_ns, 1e9 / fps, paced
        self.closed = False

    def wait(self, index: int) -> int:
        """Return the stamp of frame ``index``, on the monotonic clock, once it is due."""
        stamp_ns = self.epoch_ns + round(index * self.period_ns)
        if self.paced:
            while not self.closed and (left := stamp_ns - time.monotonic_ns()) > 0:
                time.sleep(min(left / 1e9, 0.2))
        return stamp_ns


def open_camera(uri: str, name: str, epoch_ns: int) -> Camera:
    """Open a source by its URI; ``epoch_ns`` is the common time of the first frames of recorded sources."""
    place, options = split_options(uri)
    if place == "pattern:":
        from .pattern import PatternCamera

        return PatternCamera(name, epoch_ns, options)
    from .opencv import FolderCamera, StreamCamera, VideoCamera

    is_number = place.isascii() and place.isdigit() and len(place) < 4
    if is_number or "://" in place:
        return StreamCamera(name, int(place) if is_number else place, options)
    path = Path(place)
    if path.is_dir():
        return FolderCamera(name, path, epoch_ns, options)
    if path.is_file():
        return VideoCamera(name, path, epoch_ns, options)
    raise CameraError(f"--{name} {redact(uri)}: no such folder or file, nor a camera number, URL or 'pattern:'")


def split_options(uri: str) -> tuple[str, Options]:
    """Split ``place?key=value`` into the place and its numbers; a stream's URL keeps its own query."""
    place, mark, query = uri.partition("?")
    if not mark or "://" in place:
        return uri, {}
    options: Options = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            options[key] = float(value)
        except ValueError:
            raise CameraError(f"{redact(uri)}: option {key}={value} is not a number") from None
    return place, options


def take(options: Options, uri: str, **defaults: float) -> list[float]:
    """Return the options in the order of ``defaults``; an unknown one names the nearest right one."""
    for key in options:
        if key not in defaults:
            raise CameraError(f"{redact(uri)}: unknown option '{key}'{nearest_hint(key, list(defaults))}")
    values = [options.get(key, default) for key, default in defaults.items()]
    if any(not 0 <= value < 1e6 for value in values):
        raise CameraError(f"{redact(uri)}: options are numbers from 0 to a million")
    return values


def redact(uri: object) -> str:
    """Return a URI without a user name and password."""
    text = str(uri)
    scheme, mark, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else text


def checked_size(frames: Iterator[Frame], describe: Callable[[Frame], str]) -> Iterator[Frame]:
    """Pass frames on while they keep the size of the first; raises `CameraError` when one does not."""
    size: tuple[int, int] | None = None
    for frame in frames:
        size = size or frame.size
        if frame.size != size:
            raise CameraError(
                f"{describe(frame)}: is {frame.size[1]}x{frame.size[0]}, the stream began with {size[1]}x{size[0]}; "
                "give pictures of one size"
            )
        yield frame
