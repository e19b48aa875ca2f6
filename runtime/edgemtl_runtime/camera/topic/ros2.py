"""Images of a ROS 2 topic, through rclpy where it is installed: raw or compressed, with the service of sensor data."""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CameraError, missing
from ...frame import StampedImage
from ...messages.images import decompress, to_array
from ..mcap import COMPRESSED_IMAGE, IMAGE
from ..options import Options, check_known
from ..pushed import OPEN_S
from . import TopicCamera, info_topic

SPIN_S = 0.1
MOST_LISTED = 8


class Ros2Camera(TopicCamera):
    """A ROS 2 topic as a camera: a node of its own, which spins in a thread of its own and leaves signals alone."""

    def __init__(self, name: str, address: str, options: Options) -> None:
        super().__init__(name, address, options)
        check_known(options, address, ["clock"])
        self.topic = f"/{address.partition('://')[2].strip('/')}"
        self.rclpy = self._module("rclpy")
        self.context = self._module("rclpy.context").Context()
        signals = self._module("rclpy.signals").SignalHandlerOptions.NO
        self.rclpy.init(context=self.context, signal_handler_options=signals)
        self.node = self.rclpy.create_node(f"edgemtl_{name}", context=self.context)
        self.executor = self._module("rclpy.executors").SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.spinning = threading.Thread(target=self._spin, name=f"ros2-{name}", daemon=True)
        try:
            kind = self._type()
            messages = self._module("sensor_msgs.msg")
            qos = self._module("rclpy.qos").qos_profile_sensor_data
            self.node.create_subscription(getattr(messages, kind.rpartition("/")[2]), self.topic, self.put, qos)
            self.node.create_subscription(messages.CameraInfo, f"/{info_topic(self.topic)}", self.put_info, qos)
            self.spinning.start()
            self.wait_for_first()
        except BaseException:
            self._release()
            raise

    def _module(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            hint = (
                f"{name} is missing: source ROS 2's setup.bash, or give zenoh://{self.topic[1:]} where rmw_zenoh runs"
            )
            raise CameraError(missing(error, name.partition(".")[0], hint)) from error

    def _type(self) -> str:
        """Return the topic's type, once something publishes on it; raises `CameraError`."""
        end = time.monotonic() + OPEN_S
        while True:
            types = dict(self.node.get_topic_names_and_types())
            for kind in (IMAGE, COMPRESSED_IMAGE):
                if kind in types.get(self.topic, ()):
                    return kind
            if self.topic in types and time.monotonic() > end - OPEN_S / 2:
                raise CameraError(f"{self.label}: is of {', '.join(types[self.topic])}, which is no image")
            if time.monotonic() > end:
                raise CameraError(f"{self.label}: nothing publishes on it{self._hint()}")
            time.sleep(SPIN_S)

    def _spin(self) -> None:
        while not self.closed:
            self.executor.spin_once(timeout_sec=SPIN_S)

    def _decode(self, content: Any) -> StampedImage:
        stamp = content.header.stamp
        data = np.frombuffer(content.data, np.uint8)
        image = (decompress if hasattr(content, "format") else to_array)(_WithArray(content, data))  # type: ignore[arg-type]
        return StampedImage(stamp.sec * 1_000_000_000 + stamp.nanosec, image, content.header.frame_id)

    def _hint(self) -> str:
        """Return the topics of images that there are."""
        types = self.node.get_topic_names_and_types()
        announced = sorted(topic for topic, kinds in types if {IMAGE, COMPRESSED_IMAGE} & set(kinds))
        more = ", ..." if len(announced) > MOST_LISTED else ""
        return (
            f"; images are on {', '.join(announced[:MOST_LISTED])}{more}" if announced else "; there are no images here"
        )

    def _release(self) -> None:
        self.closed = True
        if self.spinning.is_alive():
            self.spinning.join(2)
        self.executor.shutdown()
        self.node.destroy_node()
        self.rclpy.shutdown(context=self.context)


class _WithArray:
    """A message of rclpy whose data are a NumPy array, as those of the type store have them."""

    def __init__(self, message: Any, data: NDArray[np.uint8]) -> None:
        self.message, self.data = message, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)
