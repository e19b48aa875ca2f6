"""An industrial camera by GenICam: GigE Vision and USB3 Vision through a maker's GenTL producer, by Harvesters.

A producer is a file ``*.cti`` that the camera's maker gives; ``?cti=FILE``, or those in GENICAM_GENTL64_PATH.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CameraError
from ...frame import StampedImage
from ...messages.images import ENCODINGS, to_array
from ...messages.store import Header, Image, Time
from ..options import Options, check_known
from . import SdkCamera, Session, library

PRODUCERS = "GENICAM_GENTL64_PATH"
FETCH_S = 0.5
FORMATS = {
    "Mono8": "mono8",
    **dict.fromkeys(("Mono10", "Mono12", "Mono14", "Mono16"), "mono16"),
    "RGB8": "rgb8",
    "BGR8": "bgr8",
    "YUV422_8_UYVY": "uyvy",
    "YUV422_8": "yuyv",
    "BayerRG8": "bayer_rggb8",
    "BayerBG8": "bayer_bggr8",
    "BayerGB8": "bayer_gbrg8",
    "BayerGR8": "bayer_grbg8",
}
"""Pixel formats of the standard (PFNC), and ROS's encodings of the same bytes."""
NO_HEADER = Header(Time(0, 0), "")


class GenicamSession(Session):
    """A camera, by its serial number or user's name; the first one where it is empty."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.harvester = library("harvesters.core", "genicam").Harvester()
        self.acquirer: Any = None
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def _start(self, cameras: list[SdkCamera]) -> None:
        (camera,) = cameras
        assert isinstance(camera, GenicamCamera)
        try:
            for producer in camera.producers:
                self.harvester.add_file(str(producer))
            self.harvester.update()
            self.acquirer = self.harvester.create(self._index())
            self.acquirer.start()
        except CameraError:
            self._stop()
            raise
        except Exception as error:  # each producer has errors of its own
            self._stop()
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise CameraError(f"genicam://{self.device}: cannot be opened ({reason})") from error
        self.ended.clear()
        self.thread = threading.Thread(target=self._fetch, args=(camera,), name=f"genicam-{camera.name}", daemon=True)
        self.thread.start()

    def _index(self) -> int:
        devices = self.harvester.device_info_list
        names = [(str(info.serial_number), str(getattr(info, "user_defined_name", "") or "")) for info in devices]
        for index, known in enumerate(names):
            if not self.device or self.device in known:
                return index
        listed = f"there are {', '.join(serial for serial, _ in names)}" if names else "none is found"
        raise CameraError(f"genicam://{self.device}: no such camera; {listed}")

    def _fetch(self, camera: GenicamCamera) -> None:
        """Fetch images until the device is stopped; a time-out is none, and `PushedCamera` notes that none comes."""
        while not self.ended.is_set():
            buffer = self.acquirer.try_fetch(timeout=FETCH_S)
            if buffer is None:
                continue
            try:
                part = buffer.payload.components[0]
                known = part.data_format, part.height, part.width, np.array(part.data)  # the buffer goes back
                camera.put((buffer.timestamp_ns, *known))
            finally:
                buffer.queue()

    def _stop(self) -> None:
        self.ended.set()
        if self.thread is not None:
            self.thread.join(2 * FETCH_S)
        if self.acquirer is not None:
            self.acquirer.stop()
            self.acquirer.destroy()
            self.acquirer = None
        self.harvester.reset()


class GenicamCamera(SdkCamera):
    """``?cti=FILE`` is the maker's producer. Stamps are the device's, mapped to this machine's clock."""

    def __init__(self, name: str, address: str, options: Options) -> None:
        check_known(options, address, ["clock", "cti"])
        self.producers = find_producers(options.get("cti", ""), address)
        session = GenicamSession.of(address.partition("://")[2])
        if session.cameras:
            raise CameraError(f"{address}: is open already; a GenICam camera has one stream")
        super().__init__(name, address, {key: value for key, value in options.items() if key == "clock"}, session)

    def _decode(self, content: Any) -> StampedImage:
        stamp_ns, pixel_format, height, width, data = content
        return StampedImage(stamp_ns or 0, decoded(pixel_format, height, width, data), "")


def find_producers(cti: str, address: str) -> list[Path]:
    """Return the producers that an option or the environment names; raises `CameraError` where there is none."""
    folders = [Path(part) for part in os.environ.get(PRODUCERS, "").split(os.pathsep) if part]
    producers = [Path(cti)] if cti else sorted(file for folder in folders for file in folder.glob("*.cti"))
    if not producers or not all(file.is_file() for file in producers):
        where = f"{cti} is not there" if cti else f"{PRODUCERS} names no folder with one"
        raise CameraError(
            f"{address}: needs a producer of the camera's maker, a file *.cti, and {where}; give ?cti=FILE"
        )
    return producers


def decoded(pixel_format: str, height: int, width: int, data: NDArray[Any]) -> NDArray[Any]:
    """Return an image of a pixel format of the standard; raises `CameraError` for one that cannot be read."""
    encoding = FORMATS.get(pixel_format)
    if encoding is None:
        raise CameraError(
            f"cannot read the pixel format {pixel_format}; set PixelFormat to one of {', '.join(FORMATS)}"
        )
    layout = ENCODINGS[encoding]
    row = width * layout.channels * np.dtype(layout.dtype).itemsize
    return to_array(
        Image(NO_HEADER, height, width, encoding, 0, row, np.ascontiguousarray(data).reshape(-1).view(np.uint8))
    )
