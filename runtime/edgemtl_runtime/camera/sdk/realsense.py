"""A stream of an Intel RealSense camera by librealsense, or of a file that it recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CameraError
from ...frame import Frame, StampedImage
from ..options import Options, check_known, take, take_word
from . import SdkCamera, Session, in_millimetres, library

STREAMS = ("color", "depth", "infrared", "infrared2")
FORMATS = {"color": ("rgb8",), "depth": ("z16",), "infrared": ("y8", "y16"), "infrared2": ("y8", "y16")}
MOST_LISTED = 6


class RealSenseSession(Session):
    """A device, by its serial number, or a file; the first device where it is empty."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.rs = library("pyrealsense2", "realsense")
        self.context = self.rs.context()
        self.file = Path(device) if "/" in device or Path(device).is_file() else None
        try:
            self.handle = self.context.load_device(str(self.file)) if self.file else self._find(device)
        except RuntimeError as error:
            raise CameraError(f"realsense:{device}: cannot be opened ({_line(error)})") from error
        self.started: list[Any] = []

    def _find(self, serial: str) -> Any:
        number = self.rs.camera_info.serial_number
        devices = {device.get_info(number): device for device in self.context.query_devices()}
        if not devices or (serial and serial not in devices):
            listed = f"there are {', '.join(devices)}" if devices else "none is connected"
            raise CameraError(f"realsense://{serial}: no such camera; {listed}")
        return devices[serial or next(iter(devices))]

    def profile(self, stream: str, width: int, height: int, fps: int) -> tuple[Any, Any]:
        """Return the sensor that has a stream, and its profile; raises `CameraError` with those that there are."""
        known: list[tuple[int, int, Any, Any]] = []
        modes: set[str] = set()
        for sensor in self.handle.query_sensors():
            for profile in sensor.get_stream_profiles():
                if not profile.is_video_stream_profile() or not self._is_of(profile, stream):
                    continue
                video = profile.as_video_stream_profile()
                mode = video.width(), video.height(), profile.fps()
                if all(not want or want == value for want, value in zip((width, height, fps), mode, strict=True)):
                    known.append((not profile.is_default(), len(known), sensor, profile))
                modes.add(f"{mode[0]}x{mode[1]} at {mode[2]}")
        if not known:
            listed = f"there are {', '.join(sorted(modes)[:MOST_LISTED])}" if modes else "it has no such sensor"
            raise CameraError(f"realsense:{self.device}: has no stream {stream} of that size and rate; {listed}")
        return min(known)[2:]

    def _is_of(self, profile: Any, stream: str) -> bool:
        kind, index = re.fullmatch(r"([a-z]+)(\d?)", stream).groups()  # type: ignore[union-attr]
        formats = [getattr(self.rs.format, name) for name in FORMATS[stream]]
        is_index = not index or profile.stream_index() == int(index)
        return profile.stream_type() == getattr(self.rs.stream, kind) and profile.format() in formats and is_index

    def _start(self, cameras: list[SdkCamera]) -> None:
        by_sensor: dict[int, tuple[Any, dict[int, RealSenseCamera]]] = {}
        for camera in cameras:
            assert isinstance(camera, RealSenseCamera)
            key = next(n for n, sensor in enumerate(self.handle.query_sensors()) if _same(sensor, camera.sensor))
            by_sensor.setdefault(key, (camera.sensor, {}))[1][camera.profile.unique_id()] = camera
        try:
            for sensor, wanted in by_sensor.values():
                sensor.open([camera.profile for camera in wanted.values()])
                self.started.append(sensor)
                sensor.start(lambda frame, wanted=wanted: self._take(frame, wanted))
        except RuntimeError as error:
            self._stop()
            raise CameraError(f"realsense:{self.device}: does not start ({_line(error)})") from error

    def _take(self, frame: Any, wanted: dict[int, RealSenseCamera]) -> None:
        """Take a frame, in a thread of the library's, whose memory is its own."""
        camera = wanted.get(frame.get_profile().unique_id())
        if camera is None:
            return
        image = np.array(frame.get_data())
        if camera.stream == "depth":
            image = in_millimetres(image, camera.unit_m)
        camera.put(StampedImage(round(frame.get_timestamp() * 1e6), image, ""))

    def _stop(self) -> None:
        for sensor in self.started:
            sensor.stop()
            sensor.close()
        self.started = []

    @property
    def has_ended(self) -> bool:
        """Whether a file has been played to its end."""
        return self.file is not None and self.handle.as_playback().current_status() == self.rs.playback_status.stopped


class RealSenseCamera(SdkCamera):
    """``?stream=color``, ``depth``, ``infrared`` or ``infrared2``, by default as the camera is called; ``?width=`` etc.

    Stamps are the library's: by its global clock, else mapped from the device's.
    """

    def __init__(self, name: str, address: str, options: Options) -> None:
        check_known(options, address, ["clock", "stream", "width", "height", "fps"])
        default = {"depth": "depth", "ir": "infrared"}.get(name, "color")
        self.stream = take_word({"stream": default, **options}, address, "stream", STREAMS)
        sizes = {key: options[key] for key in ("width", "height", "fps") if key in options}
        width, height, fps = (int(value) for value in take(sizes, address, width=0, height=0, fps=0))
        session = RealSenseSession.of(address.partition(":")[2].removeprefix("//"))
        clock = options.get("clock", "arrival" if session.file else "header")  # a file's times are of another day
        super().__init__(name, address, {"clock": clock}, session)
        self.of_device = session
        try:
            self.sensor, self.profile = session.profile(self.stream, width, height, fps)
            self.rate = float(self.profile.fps())
            self.unit_m = self._unit_m(session.rs)
        except BaseException:
            self._release()
            raise

    def _unit_m(self, rs: Any) -> float:
        units = rs.option.depth_units
        return float(self.sensor.get_option(units)) if self.sensor.supports(units) else 0.001

    def _frames(self) -> Iterator[Frame]:
        try:
            yield from super()._frames()
        except CameraError:
            if not self.finished:
                raise

    @property
    def finished(self) -> bool:
        """Whether a file has been played to its end."""
        return self.of_device.has_ended


def _same(sensor: Any, other: Any) -> bool:
    return [p.unique_id() for p in sensor.get_stream_profiles()] == [p.unique_id() for p in other.get_stream_profiles()]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
