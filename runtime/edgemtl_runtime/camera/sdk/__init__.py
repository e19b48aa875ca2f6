"""Cameras by their makers' libraries: RealSense (`realsense`), OAK (`oak`), and industrial ones by GenICam (`genicam`).

A device with several sensors is opened once, and each of its streams is a camera. Depth is in millimetres, 16 bits.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import CameraError, missing
from ...frame import Frame, StampedImage
from ...wall import WALL
from ..options import Options
from ..pushed import PushedCamera

S = TypeVar("S", bound="Session")


class Session(ABC):
    """One device of a library, which streams while one of its cameras is read; all cameras of a device share it."""

    open_sessions: ClassVar[dict[tuple[type, str], Session]] = {}
    lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, device: str) -> None:
        self.device = device
        self.cameras: list[SdkCamera] = []
        self.running: set[SdkCamera] = set()

    @classmethod
    def of(cls: type[S], device: str) -> S:
        """Return the session of a device, opened if it is not yet."""
        with cls.lock:
            known = cls.open_sessions.get((cls, device))
            if known is None:
                known = cls.open_sessions[cls, device] = cls(device)
            assert isinstance(known, cls)
            return known

    def begin(self, camera: SdkCamera) -> None:
        """Stream for a camera that is read from now on; the device starts with all cameras that were opened."""
        with self.lock:
            if camera not in self.running:
                if self.running:
                    self._stop()
                self.running = set(self.cameras)
                self._start(self.cameras)

    def leave(self, camera: SdkCamera) -> None:
        """End the stream of a camera, and with the last one the session."""
        with self.lock:
            if camera not in self.cameras:
                return
            self.cameras.remove(camera)
            if not self.cameras:
                self.open_sessions.pop((type(self), self.device), None)
                if self.running:
                    self._stop()
                self.running = set()

    @abstractmethod
    def _start(self, cameras: list[SdkCamera]) -> None:
        """Start the device with the streams of some cameras, and call their `put`; raises `CameraError`."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop the device."""


class SdkCamera(PushedCamera):
    """One stream of a device."""

    def __init__(self, name: str, uri: str, options: Options, session: Session) -> None:
        super().__init__(name, uri, options)
        self.session = session
        with session.lock:
            session.cameras.append(self)

    def _frames(self) -> Iterator[Frame]:
        self.session.begin(self)
        yield from super()._frames()

    def _release(self) -> None:
        self.session.leave(self)

    def _decode(self, content: StampedImage) -> StampedImage:
        return content


def library(name: str, extra: str) -> Any:
    """Return a maker's library; raises `CameraError` with what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        hint = f"{name} is missing: pip install 'edgemtl-runtime[{extra}]'"
        raise CameraError(missing(error, name.partition(".")[0], hint)) from error


def of_monotonic(stamp_ns: int, image: NDArray[Any]) -> StampedImage:
    """Return an image whose time is of this machine's monotonic clock."""
    return StampedImage(stamp_ns + WALL.offset_ns(), image, "")


def in_millimetres(depth: NDArray[np.uint16], unit_m: float) -> NDArray[np.uint16]:
    """Return depth counts in millimetres, at most 65,535; 0 where it is not known."""
    if abs(unit_m - 0.001) < 1e-7:
        return depth
    return np.asarray(np.rint(depth * (unit_m * 1e3)).clip(0, 65535), np.uint16)
