"""A stream of a Luxonis OAK camera by DepthAI 3: colour, one of the mono cameras, or depth from both of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import CameraError
from ..options import Options, check_known, take, take_word
from . import SdkCamera, Session, library, of_monotonic

SOCKETS = {"color": "CAM_A", "left": "CAM_B", "right": "CAM_C"}
STREAMS = (*SOCKETS, "depth")
QUEUE_SIZE = 4


class OakSession(Session):
    """A device by its id, name or address; the first one where it is empty."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.dai = library("depthai", "oak")
        self.pipeline: Any = None

    def _start(self, cameras: list[SdkCamera]) -> None:
        dai = self.dai
        try:
            handle = dai.Device(dai.DeviceInfo(self.device)) if self.device else dai.Device()
            self.pipeline = dai.Pipeline(handle)
            for camera in cameras:
                assert isinstance(camera, OakCamera)
                queue = self._output(camera).createOutputQueue(QUEUE_SIZE, False)
                queue.addCallback(camera.take)
            self.pipeline.start()
        except RuntimeError as error:
            self._stop()
            reason = " ".join(str(error).split())[:200]
            raise CameraError(f"oak://{self.device}: cannot be opened ({reason})") from error

    def _output(self, camera: OakCamera) -> Any:
        """Return the output of the pipeline that has a camera's images."""
        dai = self.dai
        if camera.stream != "depth":
            kind = dai.ImgFrame.Type.RGB888i if camera.stream == "color" else dai.ImgFrame.Type.GRAY8
            return self._sensor(camera.stream, camera, kind)
        stereo = self.pipeline.create(dai.node.StereoDepth)
        for side in ("left", "right"):
            self._sensor(side, camera, dai.ImgFrame.Type.GRAY8).link(getattr(stereo, side))
        return stereo.depth

    def _sensor(self, stream: str, camera: OakCamera, kind: Any) -> Any:
        node = self.pipeline.create(self.dai.node.Camera)
        sensor = node.build(getattr(self.dai.CameraBoardSocket, SOCKETS[stream]))
        return sensor.requestOutput((camera.width, camera.height), kind, fps=camera.rate)

    def _stop(self) -> None:
        pipeline, self.pipeline = self.pipeline, None
        if pipeline is not None:
            pipeline.stop()


class OakCamera(SdkCamera):
    """``?stream=color``, ``left``, ``right`` or ``depth``, by default as the camera is called; ``?width=`` etc.

    Stamps are of the exposure, which the library maps to this machine's clock.
    """

    def __init__(self, name: str, address: str, options: Options) -> None:
        check_known(options, address, ["clock", "stream", "width", "height", "fps"])
        default = "depth" if name == "depth" else "color"
        self.stream = take_word({"stream": default, **options}, address, "stream", STREAMS)
        sizes = {key: options[key] for key in ("width", "height", "fps") if key in options}
        width, height, fps = take(sizes, address, width=640, height=400, fps=30)
        self.width, self.height = int(width), int(height)
        session = OakSession.of(address.partition("://")[2])
        super().__init__(name, address, {key: value for key, value in options.items() if key == "clock"}, session)
        self.rate = fps

    def take(self, message: Any) -> None:
        """Take an image, in a thread of the library's."""
        image = np.array(message.getFrame())
        stamp_ns = round(message.getTimestamp().total_seconds() * 1e9)
        self.put(of_monotonic(stamp_ns, image))
