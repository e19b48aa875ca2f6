"""Camera devices, which no test machine has: OpenCV's and linuxpy's classes in place of a kernel's."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgemtl_runtime.camera import open_camera
from edgemtl_runtime.camera.base import CameraEvents
from edgemtl_runtime.camera.mjpeg import decoded
from edgemtl_runtime.camera.opencv import DeviceCamera
from edgemtl_runtime.camera.v4l2 import V4l2Camera, decode
from edgemtl_runtime.errors import CameraError


class Capture:
    """As cv2.VideoCapture of a V4L2 device: 8 frames whose position is the driver's time."""

    asked: dict[int, float]

    def __init__(self, device: int | str) -> None:
        self.device, self.asked, self.left, self.taken_ms = device, {}, 8, 0.0
        self.clock_ms = lambda: time.monotonic_ns() / 1e6 - 40.0

    def isOpened(self) -> bool:
        return self.device in (0, "/dev/video0")

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return True

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FRAME_WIDTH: 64.0}.get(key, self.taken_ms)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        self.taken_ms = self.clock_ms()
        if self.asked.get(cv2.CAP_PROP_CONVERT_RGB) == 0:
            image = np.arange(48 * 64, dtype="<u2").reshape(1, -1).view(np.uint8)  # raw bytes, in one row
        else:
            image = np.full((48, 64, 3), (0, 0, 255), np.uint8)
        return self.left >= 0, image

    def release(self) -> None:
        self.left = 0


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[Capture]:
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    return Capture


def test_opencv_s_devices_are_stamped_by_the_driver(capture: type[Capture]) -> None:
    camera = DeviceCamera("rgb", "/dev/video0", {"width": "640", "fps": "15", "format": "mjpg"})
    assert camera.capture.asked == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FPS: 15,
    }
    frames = []
    with pytest.raises(CameraError, match="stopped after 8 frames"):
        frames += [frame for frame in camera.frames() if frames.append(frame) is None and False]
    assert len(frames) == 8 and frames[0].image[0, 0].tolist() == [255, 0, 0]
    assert all(f.stamp_source == "driver" and 35e6 < f.arrived_ns - f.stamp_ns < 80e6 for f in frames)


def test_a_driver_of_another_clock_is_not_believed(capture: type[Capture]) -> None:
    camera = DeviceCamera("rgb", "0", {})
    camera.capture.clock_ms = lambda: time.time_ns() / 1e6
    assert next(camera.frames()).stamp_source == "arrival"


def test_y16_comes_with_its_sixteen_bits(capture: type[Capture]) -> None:
    frame = next(DeviceCamera("ir", "0", {"format": "Y16"}).frames())
    assert frame.image.dtype == np.uint16 and frame.image.shape == (48, 64) and frame.image[1, 0] == 64


def test_a_device_that_is_not_there_is_told(capture: type[Capture]) -> None:
    with pytest.raises(CameraError, match="--rgb camera 7: cannot be opened; check that it is there and not in use"):
        DeviceCamera("rgb", "7", {})
    with pytest.raises(CameraError, match="format=JUMBLED is not one of V4L2's"):
        DeviceCamera("rgb", "0", {"format": "jumbled"})


YUYV, MJPG, Y16, H264 = (int.from_bytes(text, "little") for text in (b"YUYV", b"MJPG", b"Y16 ", b"H264"))


def linuxpy(monkeypatch: pytest.MonkeyPatch, pixel_format: int, payload: bytes, flags: int = 0x2000) -> dict[str, Any]:
    """Put a stand-in for linuxpy.video.device in place, of a device that gives one payload for ever."""
    calls: dict[str, Any] = {"set": [], "closed": 0, "first_ns": time.monotonic_ns() // 10**6 * 10**6 - 10**8}
    size = len(payload) or 64 * 48 * 2
    form = SimpleNamespace(width=64, height=48, pixel_format=pixel_format, size=size, bytes_per_line=0)

    class Device:
        def __init__(self, path: str) -> None:
            if path != "/dev/video0":
                raise FileNotFoundError(2, "No such file or directory", path)

        def open(self) -> None: ...

        def close(self) -> None:
            calls["closed"] += 1

        def fileno(self) -> int:
            return calls["fd"].fileno()  # type: ignore[no-any-return]

    class VideoCapture:
        def __init__(self, device: Device, size: int) -> None:
            self.buffer = self

        def get_format(self) -> Any:
            return form

        def set_format(self, *given: Any) -> None:
            calls["set"].append(given)

        def set_fps(self, fps: float) -> None:
            calls["set"].append(fps)

        def open(self) -> None: ...

        def close(self) -> None: ...

        def raw_read(self, into: bytearray) -> Any:
            into[: len(payload)] = payload
            calls["reads"] = calls.get("reads", 0) + 1
            broken = 0x40 if calls["reads"] % 3 == 0 else 0
            calls["stamp_ns"] = calls.get("stamp_ns", calls["first_ns"]) + 1_000_000
            stamp = SimpleNamespace(secs=calls["stamp_ns"] // 10**9, usecs=calls["stamp_ns"] % 10**9 // 1000)
            return SimpleNamespace(
                data=memoryview(into)[: len(payload)], flags=flags | broken, buff=SimpleNamespace(timestamp=stamp)
            )

    module = ModuleType("linuxpy.video.device")
    module.Device, module.VideoCapture = Device, VideoCapture  # type: ignore[attr-defined]
    module.BufferFlag = SimpleNamespace(ERROR=0x40, TIMESTAMP_MONOTONIC=0x2000)  # type: ignore[attr-defined]
    package, video = ModuleType("linuxpy"), ModuleType("linuxpy.video")
    package.video, video.device = video, module  # type: ignore[attr-defined]
    for name, stand_in in (("linuxpy", package), ("linuxpy.video", video), ("linuxpy.video.device", module)):
        monkeypatch.setitem(sys.modules, name, stand_in)
    calls["fd"] = Path("/dev/zero").open("rb")  # noqa: SIM115 - always ready to be read, as the device is
    return calls


def test_v4l2_gives_the_driver_s_stamps_and_counts_what_it_calls_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = linuxpy(monkeypatch, YUYV, bytes([100, 128] * 64 * 48))
    camera = V4l2Camera("rgb", "/dev/video0", {"width": "64", "height": "48", "fps": "25", "format": "yuyv"})
    dropped: list[str] = []

    class Events(CameraEvents):
        def frame_dropped(self, cause: str) -> None:
            dropped.append(cause)

    frames = camera.frames(Events())
    taken = [next(frames) for _ in range(4)]
    assert calls["set"] == [(64, 48, "YUYV"), 25]
    assert [f.stamp_ns - calls["first_ns"] for f in taken] == [10**6, 2 * 10**6, 4 * 10**6, 5 * 10**6]
    assert dropped == ["corrupt frame"] and taken[0].stamp_source == "driver" and taken[0].image.shape == (48, 64, 3)
    camera.close()
    assert not list(frames) and calls["closed"] == 1


def test_v4l2_decodes_jpeg_at_half_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    linuxpy(monkeypatch, MJPG, cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    frame = next(V4l2Camera("rgb", "/dev/video0", {"reduce": "2"}).frames())
    assert frame.image.shape == (24, 32, 3) and abs(int(frame.image.mean()) - 90) <= 1
    linuxpy(monkeypatch, YUYV, bytes([100, 128] * 64 * 48))
    with pytest.raises(CameraError, match=r"gives YUYV, and \?reduce= is of JPEG"):
        V4l2Camera("rgb", "/dev/video0", {"reduce": "2"})


def test_a_driver_s_nought_is_no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = linuxpy(monkeypatch, Y16, np.arange(64 * 48, dtype="<u2").tobytes())
    calls["first_ns"] = -1_000_000
    assert next(V4l2Camera("ir", "/dev/video0", {}).frames()).stamp_source == "arrival"


def test_v4l2_stamps_of_another_clock_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    linuxpy(monkeypatch, Y16, np.arange(64 * 48, dtype="<u2").tobytes(), flags=0)
    frame = next(V4l2Camera("ir", "/dev/video0", {}).frames())
    assert frame.stamp_source == "arrival" and frame.image.dtype == np.uint16 and frame.image[1, 0] == 64


def test_what_v4l2_cannot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = linuxpy(monkeypatch, H264, b"")
    with pytest.raises(CameraError, match=r"gives H264; ask for one of MJPG, YUYV.* by \?format="):
        V4l2Camera("rgb", "/dev/video0", {})
    assert calls["closed"] == 1
    with pytest.raises(CameraError, match=r"/dev/video3: cannot be opened .*No such file"):
        V4l2Camera("rgb", "/dev/video3", {})
    with pytest.raises(CameraError, match="format=H264 is not one of"):
        V4l2Camera("rgb", "/dev/video0", {"format": "H264"})


@pytest.mark.parametrize("pixel_format", ["MJPG", "YUYV", "UYVY", "GREY", "Y16", "RGB3", "BGR3"])
def test_every_pixel_format_shows_the_same_picture(pixel_format: str) -> None:
    grey = np.repeat(np.linspace(30, 220, 48).astype(np.uint8)[:, None], 64, 1)
    colour = np.repeat(grey[:, :, None], 3, 2)
    half = np.full_like(grey, 128)
    # limited range: 16 is black and 235 white
    luma = np.round(16 + grey * (219 / 255)).astype(np.uint8)
    data = {
        "MJPG": lambda: cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 100])[1],
        "YUYV": lambda: np.stack([luma, half], 2),
        "UYVY": lambda: np.stack([half, luma], 2),
        "GREY": lambda: grey,
        "Y16": lambda: grey.astype("<u2") * 257,
        "RGB3": lambda: colour,
        "BGR3": lambda: colour,
    }[pixel_format]()
    form = SimpleNamespace(width=64, height=48)
    image = decode(pixel_format, data.tobytes(), form)
    assert image is not None
    shown = image // 257 if pixel_format == "Y16" else image
    assert np.abs(shown.astype(int) - (grey if shown.ndim == 2 else colour)).max() <= 3
    if pixel_format != "MJPG":  # cut off in the middle
        assert decode(pixel_format, data.tobytes()[:1000], form) is None
        wide = np.pad(data.reshape(48, -1), ((0, 0), (0, 10)))  # rows with padding behind them
        form.bytes_per_line = wide.shape[1] * wide.itemsize
        again = decode(pixel_format, wide.tobytes(), form)
        assert again is not None and np.array_equal(again, image)


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_a_jpeg_is_decoded_at_a_part_of_its_size(reduce: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 12)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    by_opencv = decode("MJPG", data, SimpleNamespace(width=128, height=96), reduce)
    averaged = cv2.resize(image[:, :, ::-1], (128 // reduce, 96 // reduce), interpolation=cv2.INTER_AREA)
    assert by_opencv is not None and by_opencv.shape == averaged.shape
    assert np.abs(by_opencv.astype(int) - averaged).mean() < 2 and decoded(data[:-9], reduce) is None
    assert decode("MJPG", data[: len(data) // 2], SimpleNamespace(width=128, height=96), reduce) is None


def test_a_number_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CameraError, match="video99"):
        open_camera("99", "rgb")
