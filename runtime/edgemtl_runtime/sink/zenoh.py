"""Images and results over Zenoh: the bytes of the same ROS 2 messages that the MCAP file holds."""

from __future__ import annotations

from typing import Any

from ..errors import EdgemtlError, missing
from ..frame import FramePair
from ..messages.cameras import Setup
from ..messages.ros import NO_SETUP, of_pair
from ..messages.store import serialize
from ..result import Result
from .zenoh_keys import ROUTER, Form, PlainKeys, RosKeys, check_namespace, connected

CONNECT_MS = 3000
"""How long a router or peer may take to answer."""
PREFIX = "edgemtl"


class Zenoh:
    """Publishes each message under ``PREFIX/TOPIC`` as CDR; the whole result is JSON in a string at ``PREFIX/result``.

    ``endpoint`` is a router or peer to connect to, as ``tcp/127.0.0.1:7447``; without one, peers find each other on
    the local network. A subscriber that cannot keep up loses messages; it does not hold up the others. With ``keys``
    of "ros2" or "humble", ROS 2 nodes with rmw_zenoh see the topics, by their router; ``prefix`` is then a
    namespace, none by default.
    """

    name = "zenoh"
    on_main_thread = False

    def __init__(
        self,
        endpoint: str = "",
        prefix: str | None = None,
        wall_offset_ns: int | None = None,
        setup: Setup = NO_SETUP,
        keys: Form = "plain",
    ) -> None:
        try:
            import zenoh
        except ImportError as error:
            raise EdgemtlError(
                missing(error, "zenoh", "zenoh is missing: pip install 'edgemtl-runtime[zenoh]'")
            ) from error
        ros = keys != "plain"
        prefix = ("" if ros else PREFIX) if prefix is None else prefix
        self.setup, self.prefix = setup, prefix.strip("/")
        if ros:
            check_namespace(self.prefix)
            endpoint = endpoint or ROUTER
        self.wall_offset_ns = wall_offset_ns
        self.publishers: dict[str, tuple[str, Any]] = {}
        target = endpoint or "peer discovery"
        try:
            if not ros:
                zenoh.KeyExpr(self.prefix)
            self.session = zenoh.open(connected(zenoh.Config(), endpoint, CONNECT_MS))
        except zenoh.ZError as error:
            reason = " ".join(str(error).split())[:200]
            raise EdgemtlError(
                f"zenoh, {target}, prefix '{prefix}': {reason}; start the router or peer first"
            ) from error
        try:
            self.keys = RosKeys(self.session, self.prefix, keys) if ros else PlainKeys(self.session, self.prefix)
        except EdgemtlError:
            self.close()
            raise

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Publish one pair's images and, where there is one, its result."""
        for topic, _, message in of_pair(pair, result, self.wall_offset_ns, self.setup):
            kind, publisher = self.publishers.get(topic, ("", None))
            if kind != message.__msgtype__:  # another bundle's head may have the same name
                if publisher is not None:
                    publisher.undeclare()
                publisher = self.keys.publisher(topic, message.__msgtype__)
                self.publishers[topic] = message.__msgtype__, publisher
            publisher.put(serialize(message), attachment=self.keys.attachment(topic))

    def close(self) -> None:
        """Close the session; what was published is sent first."""
        self.session.close()
