"""The lifecycle node: configured it has opened and tried its bundle, active it reads cameras and publishes results.

Topics are relative to the node's namespace and can be remapped: ``camera/NAME/image/compressed`` or ``image``,
``camera/NAME/camera_info`` and ``annotations``, one a head of the bundle, ``result`` as JSON, and ``/diagnostics``.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import rclpy
from rclpy.lifecycle import Node, State, TransitionCallbackReturn

from edgemtl_runtime.bundle_link import BundleLink, Opened, is_link, open_target
from edgemtl_runtime.bundle_options import BundleOptions
from edgemtl_runtime.camera import Camera, check_addresses, open_cameras
from edgemtl_runtime.errors import EdgemtlError
from edgemtl_runtime.messages.cameras import Setup
from edgemtl_runtime.pipeline import Pipeline
from edgemtl_runtime.policy import QueuePolicy
from edgemtl_runtime.rig import Rig
from edgemtl_runtime.sink.ros2 import Ros2

PARAMETERS: dict[str, Any] = {
    "bundle": "",
    "topics": ["rgb:=rgb/image", "ir:=ir/image"],
    "sources": [""],
    "rig": "",
    "frame_ids": [""],
    "tolerance_ms": 30.0,
    "max_age_ms": 0.0,
    "thresholds": [""],
    "track": False,
    "signed_by": [""],
    "backend": "",
    "precision": "",
    "threads": 0,
}
"""By name; config/detector.yaml says what each is. A list of texts cannot be empty in ROS 2, so "" is nothing."""
CHECK_S = 0.5
"""How often an active node looks whether its run has ended by itself."""


class Detector(Node):
    """A node ``detector``."""

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", **options)
        for name, value in PARAMETERS.items():
            self.declare_parameter(name, value)
        self.opened: Opened | None = None
        self.pipeline: Pipeline | None = None
        self.link: BundleLink | None = None
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.timer = self.create_timer(CHECK_S, self._check)

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Open and try the bundle and its engine, and check where the cameras are."""
        try:
            self._log_events()
            self.uris = self._uris()
            rig = self._value("rig")
            self.rig = Rig.open(Path(rig)) if rig else None
            self.setup = Setup.of(self.rig, self._texts("frame_ids"), list(self.uris))
            check_addresses(self.uris)
            self.options = BundleOptions(
                self.uris,
                self._texts("thresholds"),
                [Path(key) for key in self._texts("signed_by")],
                self._value("backend"),
                self._value("precision"),
                self._value("threads"),
            )
            if not self._value("bundle"):
                raise EdgemtlError("the parameter 'bundle' is empty: give the folder of a bundle")
            self.path = Path(self._value("bundle"))
            warn = self.get_logger().warning if is_link(self.path) else None
            self.opened = open_target(self.path, self.options.open, warn)
        except EdgemtlError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Open the cameras and run."""
        assert self.opened is not None
        cameras: dict[str, Camera] = {}
        try:
            cameras = open_cameras(self.uris, wait=True)
            self.pipeline = Pipeline(
                self.opened.bundle,
                self.opened.engine,
                cameras,
                self._value("tolerance_ms"),
                policy=QueuePolicy("auto", max_age_ms=self._value("max_age_ms")),
                rig=self.rig,
                thresholds=self.opened.thresholds,
                track=self._value("track"),
                on_error="degrade",
            )
            sink = Ros2(self.pipeline.status, setup=self.setup, node=self)
        except EdgemtlError as error:
            self.get_logger().error(str(error))
            self._end()
            for camera in cameras.values():
                camera.close()
            return TransitionCallbackReturn.FAILURE
        if is_link(self.path):
            self.link = BundleLink(self.path, self.pipeline, self.options.open)
        self.error = None
        self.thread = threading.Thread(target=self._run, args=(self.pipeline, sink), name="detector", daemon=True)
        self.thread.start()
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """End the run; the engine of the bundle in use stays open."""
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Close the engine."""
        self._end()
        if self.opened is not None:
            self.opened.engine.close()
            self.opened = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """End the run and close the engine."""
        return self.on_cleanup(state)

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """End the run and close the engine; the node may be configured again."""
        return self.on_cleanup(state)

    def _run(self, pipeline: Pipeline, sink: Ros2) -> None:
        """Run until the cameras end or the node is deactivated, in a thread of its own."""
        try:
            pipeline.run([sink])
        except BaseException as error:  # the timer reports it
            self.error = error

    def _check(self) -> None:
        """Deactivate a node whose run has ended by itself."""
        if self.thread is not None and not self.thread.is_alive():
            reason = f": {self.error}" if self.error else ", as its cameras have"
            self.get_logger().error(f"the run has ended{reason}")
            self.trigger_deactivate()

    def _end(self) -> None:
        """End the run and keep the bundle that was in use; engines of others are closed."""
        if self.pipeline is None:
            return
        self.pipeline.stop()
        if self.thread is not None:
            self.thread.join()
        if self.link is not None:
            self.link.stop()
        self.pipeline.close()
        loaded = self.pipeline.close_other_engines()
        self.opened = Opened(loaded.bundle, loaded.engine, loaded.thresholds)
        self.thread = self.link = self.pipeline = None

    def _uris(self) -> dict[str, str]:
        """Return the cameras' URIs by input; raises `EdgemtlError`."""
        uris = {}
        for kind in ("topics", "sources"):
            for text in self._texts(kind):
                name, sign, target = text.partition(":=")
                if not (sign and name and target) or (kind == "topics" and name in uris):
                    raise EdgemtlError(
                        f"{kind}: '{text}' is not {'INPUT:=TOPIC' if kind == 'topics' else 'INPUT:=URI'}"
                    )
                uris[name] = f"ros2://{self.resolve_topic_name(target).lstrip('/')}" if kind == "topics" else target
        return uris

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _texts(self, name: str) -> list[str]:
        return [text for text in self._value(name) if text]

    def _log_events(self) -> None:
        """Log what is reported of cameras, sinks and bundles through the node."""
        log = logging.getLogger("edgemtl_runtime")
        if not any(isinstance(handler, NodeHandler) for handler in log.handlers):
            log.addHandler(NodeHandler(self.get_logger()))


class NodeHandler(logging.Handler):
    """Passes records of Python's logging to a node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        log = self.logger.warning if record.levelno >= logging.WARNING else self.logger.info
        log(record.getMessage())


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    node = Detector()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass
    finally:
        node.on_shutdown(None)
        node.destroy_node()
        rclpy.try_shutdown()
