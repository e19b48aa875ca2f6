"""Images of a Zenoh key: of ROS 2 nodes with rmw_zenoh, of the bridge from DDS, or of edgemtl's own sink.

No ROS is needed. A topic's key is ``DOMAIN/TOPIC/TYPE/HASH`` with rmw_zenoh (github.com/ros2/rmw_zenoh,
docs/design.md), ``TOPIC`` with zenoh-bridge-ros2dds and ``PREFIX/TOPIC`` with the sink; all are subscribed to, and the
first that gives an image is the camera's.
"""

from __future__ import annotations

import contextlib
import difflib
import socket
from typing import Any

from ...errors import CameraError, EdgemtlError, UsageError, missing
from ...frame import StampedImage
from ...messages.images import image_of
from ...messages.store import deserialize
from ...sink.zenoh_keys import connected, domain
from ..mcap import COMPRESSED_IMAGE, IMAGE
from ..options import Options, check_known
from . import TopicCamera, info_topic

CONNECT_MS = 2000
ROUTER = ("localhost", 7447)
ROUTER_S = 0.2
"""How long ROS 2's router may take to answer before peers are looked for instead."""
TYPES = {f"sensor_msgs::msg::dds_::{name}_": f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage")}
"""Full type names by those in keys."""
INFO_TYPE = "sensor_msgs::msg::dds_::CameraInfo_"
LISTED_S = 0.5
MOST_LISTED = 8


class ZenohCamera(TopicCamera):
    """A Zenoh key as a camera; ``?endpoint=tcp/HOST:PORT`` is a router or peer, by default ROS 2's on this machine.

    Where none answers there, peers are looked for on the local network. ``?domain=`` is ROS 2's, by default that of the
    environment.
    """

    def __init__(self, name: str, address: str, options: Options) -> None:
        super().__init__(name, address, options)
        check_known(options, address, ["clock", "endpoint", "domain"])
        try:
            import zenoh
        except ImportError as error:
            hint = "zenoh is missing: pip install 'edgemtl-runtime[zenoh]'"
            raise CameraError(missing(error, "zenoh", hint)) from error
        self.zenoh, self.topic = zenoh, address.partition("://")[2].strip("/")
        self.domain = options.get("domain") or str(domain())
        self.key = ""
        endpoint = options.get("endpoint", "") or _router()
        try:
            self.session = zenoh.open(connected(zenoh.Config(), endpoint, CONNECT_MS))
        except zenoh.ZError as error:
            reason = " ".join(str(error).split()).partition(" at /")[0][:200]  # behind it is where zenoh was built
            target = endpoint or "peer discovery"
            raise CameraError(f"{self.label}: {target} does not answer ({reason}); start the router first") from error
        try:
            self.subscribers = [
                self.session.declare_subscriber(key, taken)
                for topic, types, taken in (
                    (self.topic, TYPES, self._take),
                    (info_topic(self.topic), (INFO_TYPE,), self._take_info),
                )
                for key in (topic, *(f"{self.domain}/{topic}/{type_name}/*" for type_name in types))
            ]
            self.wait_for_first()
        except zenoh.ZError as error:
            self._release()
            raise UsageError(
                f"{self.label}: '{self.topic}' is no key ({' '.join(str(error).split())[:100]})"
            ) from error
        except BaseException:
            self._release()
            raise

    def _take(self, sample: Any) -> None:
        """Take a sample, in a thread of Zenoh's."""
        key = str(sample.key_expr)
        if sample.kind == self.zenoh.SampleKind.PUT and self.key in ("", key):
            self.key = key
            self.put(sample.payload.to_bytes())

    def _take_info(self, sample: Any) -> None:
        """Take a calibration, in a thread of Zenoh's; what cannot be read is none."""
        if sample.kind == self.zenoh.SampleKind.PUT:
            with contextlib.suppress(EdgemtlError):
                self.put_info(deserialize(sample.payload.to_bytes(), "sensor_msgs/msg/CameraInfo"))  # type: ignore[arg-type]

    def _decode(self, content: bytes) -> StampedImage:
        named = next((full for part, full in TYPES.items() if f"/{part}/" in self.key), None)
        if named is not None:
            return image_of(content, named)
        try:  # a bridge's keys name no type: most bytes of one are none of the other
            return image_of(content, IMAGE)
        except EdgemtlError:
            return image_of(content, COMPRESSED_IMAGE)

    def _hint(self) -> str:
        """Return the topics of images that ROS 2 nodes announce."""
        announced = set()
        for reply in self.session.liveliness().get("@ros2_lv/**", timeout=LISTED_S):
            parts = str(reply.ok.key_expr).split("/") if reply.ok is not None else []
            if len(parts) > 10 and parts[5] == "MP" and parts[10] in TYPES:
                announced.add(parts[9].replace("%", "/").strip("/"))
        if not announced:
            return "; nothing announces images there: check the key, ?endpoint=tcp/HOST:PORT and ?domain="
        near = sorted(announced, key=lambda topic: -difflib.SequenceMatcher(None, topic, self.topic).ratio())
        more = ", ..." if len(near) > MOST_LISTED else ""
        return f"; images are announced on {', '.join(near[:MOST_LISTED])}{more}"

    def _release(self) -> None:
        self.session.close()


def _router() -> str:
    """Return the endpoint of a router on this machine, "" where none answers."""
    try:
        with socket.create_connection(ROUTER, ROUTER_S):
            return f"tcp/{ROUTER[0]}:{ROUTER[1]}"
    except OSError:
        return ""
