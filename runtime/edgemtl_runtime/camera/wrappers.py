"""Cameras around cameras: rotation and stamp offset, copied images, hidden secrets, and minimal custom cameras."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import CameraError
from ..frame import Frame
from .base import NO_EVENTS, Camera, CameraBase, CameraEvents
from .options import Options, take_word
from .redaction import without

RENAMED = {"owned_pictures": "owns_images"}
"""Optional attributes of custom cameras by their names of version 0.1, which are read for one version more."""
CALLBACKS = {"told": "state_changed", "dropped": "frame_dropped"}
"""Callback attributes of custom cameras of version 0.1, by the method of `CameraEvents` that takes their place."""
log = logging.getLogger("edgemtl_runtime")


def with_offsets(cameras: Mapping[str, Camera], offset_ms: Mapping[str, float]) -> dict[str, Camera]:
    """Return cameras whose stamps are moved by constants, by camera name."""
    return {
        name: Adjusted(camera, offset_ns=round(1e6 * offset_ms[name])) if offset_ms.get(name) else camera
        for name, camera in cameras.items()
    }


class CameraWrapper(CameraBase):
    """A camera that delegates to another one."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera = complete(camera)
        self.name, self.uri, self.live, self.rate = camera.name, camera.uri, camera.live, camera.rate
        self.owns_images = camera.owns_images

    @property
    def drops_repeats(self) -> bool:
        """As the wrapped camera."""
        return self.camera.drops_repeats

    @property
    def finished(self) -> bool:
        """As the wrapped camera."""
        return self.camera.finished

    @property
    def unwrapped(self) -> Camera:
        """The innermost camera."""
        return self.camera.unwrapped

    def start(self, now_ns: int) -> None:
        """Begin playback of the wrapped camera."""
        self.camera.start(now_ns)

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the wrapped camera's frames."""
        return self.camera.frames(events)

    def close(self) -> None:
        """Close the wrapped camera."""
        self.camera.close()


class Adjusted(CameraWrapper):
    """A camera whose images are rotated clockwise and whose stamps are moved by a constant.

    ``offset_ms`` is added to the stamps: -120 for a camera whose frames are stamped 120 ms after they were taken.
    """

    def __init__(self, camera: Camera, rotate: int = 0, offset_ns: int = 0, keep_repeats: bool = False) -> None:
        super().__init__(camera)
        self.rotate, self.offset_ns, self.keep_repeats = rotate, offset_ns, keep_repeats

    @classmethod
    def of(cls, camera: CameraBase, options: Options, uri: str) -> CameraBase:
        """Return a camera with the options of every source, itself where it has none."""
        if not options:
            return camera
        rotate = int(take_word(options, uri, "rotate", ("0", "90", "180", "270")))
        keep = take_word(options, uri, "repeats", ("drop", "keep")) == "keep"
        try:
            offset_ns = round(float(options.get("offset_ms", "0")) * 1e6)
        except (ValueError, OverflowError):
            offset_ns = 1 << 62
        if abs(offset_ns) > 60_000_000_000:
            raise CameraError(f"{uri}: option offset_ms={options['offset_ms']} is not a number of up to 60,000 ms")
        return cls(camera, rotate, offset_ns, keep)

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal image is a repeated one."""
        return self.camera.drops_repeats and not self.keep_repeats

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the adjusted frames."""
        turns = -self.rotate // 90  # NumPy turns the other way
        for frame in self.camera.frames(events):
            image = np.ascontiguousarray(np.rot90(frame.image, turns)) if turns else frame.image
            unix_ns = frame.unix_ns and frame.unix_ns + self.offset_ns
            lens = None if turns else frame.lens
            yield replace(frame, image=image, stamp_ns=frame.stamp_ns + self.offset_ns, unix_ns=unix_ns, lens=lens)


class Copied(CameraWrapper):
    """A camera whose images are copied as they come, before it can write over them."""

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the frames with copies of their images."""
        for frame in self.camera.frames(events):
            yield replace(frame, image=frame.image.copy())


def with_owned_images(camera: CameraBase) -> CameraBase:
    """Return a camera whose images are each a new array: itself where it states so."""
    return camera if camera.owns_images else Copied(camera)


class Redacted(CameraWrapper):
    """A camera whose errors name no secret of its source."""

    def __init__(self, camera: CameraBase, secrets: list[str]) -> None:
        super().__init__(camera)
        self.secrets = secrets

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the camera's frames; its errors without secrets."""
        try:
            yield from self.camera.frames(events)
        except Exception as error:
            raise without(error, self.secrets) from None


def redacting(opener: Callable[[], CameraBase], secrets: list[str]) -> Callable[[], CameraBase]:
    """Return an opener whose errors, and whose camera's, name no secret."""
    if not secrets:
        return opener

    def opened() -> CameraBase:
        try:
            return Redacted(opener(), secrets)
        except Exception as error:
            raise without(error, secrets) from None

    return opened


class CustomCamera(CameraBase):
    """A minimal `Camera` of another program, completed: the attributes that it does not state have their defaults."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.name, self.live = camera, camera.name, camera.live
        self.rate = float(_stated(camera, "rate", 0.0))
        self.owns_images = bool(_stated(camera, "owns_images", False))

    @property
    def drops_repeats(self) -> bool:
        """Whether an equal image is a repeated one, as the camera states."""
        return bool(_stated(self.camera, "drops_repeats", False))

    @property
    def unwrapped(self) -> Camera:
        """The program's camera."""
        return self.camera

    def frames(self, events: CameraEvents = NO_EVENTS) -> Iterator[Frame]:
        """Yield the camera's frames; the callbacks of version 0.1 are set where it has them."""
        for name, method in (("told", events.state_changed), ("dropped", events.frame_dropped)):
            if _stated(self.camera, name, None) is not None:
                _warn_renamed(f"{name} of a camera", f"CameraBase.frames(events), events.{CALLBACKS[name]}")
                setattr(self.camera, name, method)
        return self.camera.frames()

    def close(self) -> None:
        """Close the camera."""
        self.camera.close()


def complete(camera: Camera) -> CameraBase:
    """Return a camera with all that a camera can do: itself where it derives from `CameraBase`."""
    return camera if isinstance(camera, CameraBase) else CustomCamera(camera)


def _stated(camera: Camera, name: str, default: Any) -> Any:
    """Return an optional attribute of a custom camera, by its new name or that of version 0.1."""
    for old, new in RENAMED.items():
        if name == new and (value := getattr(camera, old, None)) is not None:
            _warn_renamed(old, new)
            return value
    return getattr(camera, name, default)


@lru_cache(maxsize=16)
def _warn_renamed(old: str, new: str) -> None:
    """Warn once of a name that the next version will not read."""
    log.warning("%s is %s now; the old name is read for this version only", old, new)
