"""What is done with any camera before it is read: it is claimed, since each is read once, and begun."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import EdgemtlError, flag
from ..frame import Frame
from . import Camera
from .wrappers import Adjusted

_TAKEN: dict[int, weakref.ref[Any]] = {}
"""Cameras that are being read or have been, by identity: they need be neither hashable nor comparable."""
_LOCK = threading.Lock()


def check_count(cameras: Mapping[str, Camera]) -> None:
    """Raise `EdgemtlError` where there are more cameras than are paired, or none."""
    if not 1 <= len(cameras) <= 2:
        raise EdgemtlError(f"{len(cameras)} cameras are given; one is run alone, or two in pairs")


def check_free(cameras: Mapping[str, Camera]) -> None:
    """Raise `EdgemtlError` where a camera was given twice, or to something that has begun to read it."""
    names: dict[int, str] = {}
    for name, camera in cameras.items():
        source = _innermost(camera)
        if id(source) in names:
            raise EdgemtlError(f"{flag(names[id(source)])} and {flag(name)} are one camera; open it twice")
        names[id(source)] = name
        taken = _TAKEN.get(id(source))
        if taken is not None and taken() is source:
            raise EdgemtlError(
                f"{flag(name)} is read by another pipeline, or was; a camera is read once: open it again"
            )


def claim(cameras: Mapping[str, Camera], check: bool = True) -> None:
    """Note that cameras are read from now on; raises `EdgemtlError` as `check_free` does."""
    with _LOCK:
        if check:
            check_free(cameras)
        for camera in cameras.values():
            source = _innermost(camera)
            try:
                _TAKEN[id(source)] = weakref.ref(source, partial(_forget, id(source)))
            except TypeError:  # a class with slots alone: it cannot be followed
                continue


def _forget(key: int, _: object) -> None:
    _TAKEN.pop(key, None)


def begin(cameras: Mapping[str, Camera], now_ns: int) -> None:
    """Let recordings begin to play now, ``now_ns`` on the monotonic clock, however long ago they were opened."""
    for camera in cameras.values():
        if (pace := getattr(_innermost(camera), "pace", None)) is not None:
            pace.epoch.now_ns = now_ns


def owned(camera: Camera) -> Camera:
    """Return a camera whose pictures are each in memory of their own: itself where it says that they are."""
    return camera if getattr(camera, "owned_pictures", False) else _Copied(camera)


class _Copied:
    """A camera whose pictures are copied as they come, before it can write over them."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.name, self.live = camera, camera.name, camera.live

    def __getattr__(self, name: str) -> object:
        return getattr(self.camera, name)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames with copies of their pictures."""
        for frame in self.camera.frames():
            yield replace(frame, image=frame.image.copy())

    def close(self) -> None:
        """Close the camera."""
        self.camera.close()


def _innermost(camera: Camera) -> Camera:
    """Return what a camera of ours that only adjusts another one stands on."""
    while isinstance(camera, Adjusted):
        camera = camera.camera
    return camera
