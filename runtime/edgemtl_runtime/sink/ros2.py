"""Images, results and diagnostics as ROS 2 topics, through rclpy where it is installed."""

from __future__ import annotations

import array
import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import EdgemtlError, missing
from ..frame import FramePair
from ..messages.annotations import IMAGE_ANNOTATIONS
from ..messages.cameras import Setup
from ..messages.ros import NO_SETUP, of_pair, of_status
from ..messages.store import STORE, Message
from ..result import Result
from ..status import Status, as_dict

DIAGNOSTICS_S = 1.0
DIAGNOSTICS_DEPTH = 10
BYTE = ("byte", 0)
"""The type store's description of a single ``byte``."""
log = logging.getLogger("edgemtl_runtime")


class Ros2:
    """A node ``edgemtl`` that publishes with the quality of service of sensor data.

    Topics are those of the MCAP file, relative, so that a namespace or a remapping takes them along. ``status`` is
    read once a second for ``/diagnostics``. The node has its own context and leaves signals alone; with ``node``
    that one publishes, and is left to whoever made it. Raises `EdgemtlError` where rclpy or a message package is
    missing.
    """

    name = "ros2"
    on_main_thread = False

    def __init__(
        self,
        status: Callable[[], Status | Mapping[str, Any]] | None = None,
        wall_offset_ns: int | None = None,
        setup: Setup = NO_SETUP,
        node: Any = None,
    ) -> None:
        self.setup = setup
        self.rclpy = _module("rclpy")
        self.qos = _module("rclpy.qos").qos_profile_sensor_data
        self.wall_offset_ns = wall_offset_ns
        self.publishers: dict[str, tuple[type | None, Any]] = {}
        self.error: Exception | None = None
        self.context: Any = None
        if node is None:
            self.context = _module("rclpy.context").Context()
            signals = _module("rclpy.signals").SignalHandlerOptions.NO
            self.rclpy.init(context=self.context, signal_handler_options=signals)
            node = self.rclpy.create_node("edgemtl", context=self.context)
        self.node = node
        self.has_annotations = _has_annotations()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        if status is not None:
            self.thread = threading.Thread(target=self._diagnose, args=(status,), name="ros2-diagnostics", daemon=True)
            self.thread.start()

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Publish one pair's images and, where there is one, its result; raises the diagnostics' error."""
        if self.error:
            raise self.error
        for topic, _, message in of_pair(pair, result, self.wall_offset_ns, self.setup):
            if message.__msgtype__ == IMAGE_ANNOTATIONS and not self.has_annotations:
                continue
            self._publish(topic.lstrip("/"), message, self.qos)

    def _publish(self, topic: str, message: Message, qos: Any) -> None:
        filled = fill(message)
        kind, publisher = self.publishers.get(topic, (None, None))
        if kind is not type(filled):  # another bundle's head may have the same name
            if publisher is not None:
                self.node.destroy_publisher(publisher)
            publisher = self.node.create_publisher(type(filled), topic, qos)
            self.publishers[topic] = type(filled), publisher
        publisher.publish(filled)

    def _diagnose(self, status: Callable[[], Status | Mapping[str, Any]]) -> None:
        try:
            while True:
                self._publish("/diagnostics", of_status(as_dict(status()), time.time_ns()), DIAGNOSTICS_DEPTH)
                if self.ended.wait(DIAGNOSTICS_S):
                    return
        except Exception as error:  # raised again by the thread that writes, which ends the run with it
            self.error = error

    def close(self) -> None:
        """Destroy the node, or the publishers of one that was given."""
        self.ended.set()
        if self.thread:
            self.thread.join()
        if self.context is None:
            for _, publisher in self.publishers.values():
                self.node.destroy_publisher(publisher)
            return
        self.node.destroy_node()
        self.rclpy.shutdown(context=self.context)


def fill(message: Message) -> Any:
    """Return the message as ROS's own class of that name, filled field by field.

    rclpy's setters take octets fastest as an ``array`` and want a ``byte`` as one octet of bytes.
    """
    package, _, name = message.__msgtype__.split("/")
    filled = getattr(_module(f"{package}.msg"), name)()
    for field, (_, detail) in STORE.fielddefs[message.__msgtype__][1]:
        value = getattr(message, field)
        setattr(filled, field, bytes([value]) if detail == BYTE else _value(value))
    return filled


def _value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return array.array("B", value.tobytes()) if value.dtype == np.uint8 else value.tolist()
    if isinstance(value, list):
        return [_value(element) for element in value]
    return fill(value) if isinstance(value, Message) else value


def _has_annotations() -> bool:
    """Return whether annotations can be published: not every ROS has their package."""
    try:
        importlib.import_module("foxglove_msgs.msg")
    except ImportError:
        log.warning("ros2: no annotations are published: apt install ros-$ROS_DISTRO-foxglove-msgs")
        return False
    return True


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = f"ros-$ROS_DISTRO-{name.partition('.')[0].replace('_', '-')}"
        hint = f"ROS 2's {name} is missing: source a ROS 2 setup, or apt install {package}"
        raise EdgemtlError(missing(error, name, hint)) from error
