"""Before a camera is read: it is claimed, since each is read once, and playback begins."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from functools import partial

from ..errors import EdgemtlError, flag
from ..group_pairing import MOST_CAMERAS
from .base import Camera
from .wrappers import complete

_TAKEN: dict[int, weakref.ref[Camera]] = {}
"""Cameras that are being read or have been, by identity: they need be neither hashable nor comparable."""
_LOCK = threading.Lock()


def check_count(cameras: Mapping[str, Camera]) -> None:
    """Raise `EdgemtlError` where there are more cameras than are paired, or none."""
    if not 1 <= len(cameras) <= MOST_CAMERAS:
        raise EdgemtlError(f"{len(cameras)} cameras are given; give one, or up to {MOST_CAMERAS} that are paired")


def check_free(cameras: Mapping[str, Camera]) -> None:
    """Raise `EdgemtlError` where a camera was given twice, under another name, or is being read already."""
    names: dict[int, str] = {}
    for name, camera in cameras.items():
        source = complete(camera).unwrapped
        if id(source) in names:
            raise EdgemtlError(f"{flag(names[id(source)])} and {flag(name)} are one camera; open it twice")
        names[id(source)] = name
        if camera.name != name:  # its frames go by that
            raise EdgemtlError(f"{flag(name)} is given a camera of the name {camera.name!r}; open it as {name!r}")
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
            source = complete(camera).unwrapped
            try:
                _TAKEN[id(source)] = weakref.ref(source, partial(_forget, id(source)))
            except TypeError:  # a class with slots alone: it cannot be followed
                continue


def _forget(key: int, _: object) -> None:
    _TAKEN.pop(key, None)
