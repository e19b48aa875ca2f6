"""Zenoh keys of topics: plain ones, or those by which ROS 2 nodes with rmw_zenoh find them.

The format is that of rmw_zenoh's design document (github.com/ros2/rmw_zenoh, docs/design.md): a topic's key ends in its
type and the type's hash, every sample carries its number, time and publisher, and liveliness tokens announce the node
and its publishers. Tried between sessions of zenoh on one machine, not with a ROS node.
"""

from __future__ import annotations

import json
import os
import re
import struct
import time
from collections import Counter
from typing import Any, Literal

from ..errors import EdgemtlError, missing
from ..messages.store import type_hash

Form = Literal["plain", "ros2", "humble"]
FORMS: tuple[Form, ...] = ("plain", "ros2", "humble")
"""Humble's nodes have no type hashes: `NO_HASH` stands in their keys."""
NODE = "edgemtl"
ROUTER = "tcp/localhost:7447"
"""Default endpoint of ROS 2's router."""
NO_HASH = "TypeHashNotSupported"
QOS = "::,10:,:,:,,"
"""Reliable, volatile, the last ten kept, no deadlines: what suits every subscription of sensor data."""
MAX_DOMAIN = 232


def connected(config: Any, endpoint: str, connect_ms: int) -> Any:
    """Return a Zenoh configuration that connects to a router or peer alone; as it is where none is named."""
    if endpoint:
        config.insert_json5("mode", '"client"')
        config.insert_json5("connect/endpoints", json.dumps([endpoint]))
        config.insert_json5("connect/timeout_ms", str(connect_ms))
        config.insert_json5("scouting/multicast/enabled", "false")
    return config


class PlainKeys:
    """``PREFIX/TOPIC``, the encoding naming CDR and the type."""

    def __init__(self, session: Any, prefix: str) -> None:
        import zenoh

        self.session, self.prefix, self.encoding = session, prefix, zenoh.Encoding.APPLICATION_CDR

    def publisher(self, topic: str, type_name: str) -> Any:
        """Declare a topic's publisher."""
        encoding = self.encoding.with_schema(type_name)
        return self.session.declare_publisher(f"{self.prefix}{topic}", encoding=encoding)

    def attachment(self, topic: str) -> bytes | None:
        """Return a sample's attachment: none."""
        return None


class RosKeys:
    """``DOMAIN/TOPIC/TYPE/HASH``, with the node's and publishers' tokens; ``prefix`` is a namespace, or empty."""

    def __init__(self, session: Any, prefix: str, form: Form) -> None:
        self.session, self.namespace, self.form = session, f"/{prefix}" if prefix else "", form
        self.domain = domain()
        self.numbers: Counter[str] = Counter()
        self.gids: dict[str, bytes] = {}
        self.begin = f"@ros2_lv/{self.domain}/{session.zid()}/0"
        self.node = f"%/{_mangled(self.namespace)}/{NODE}"
        self.tokens = {"": session.liveliness().declare_token(f"{self.begin}/0/NN/{self.node}")}
        """The node's, and each topic's."""
        self.count = 0

    def key(self, topic: str, type_name: str) -> str:
        """Return the key of a topic."""
        return f"{self.domain}/{(self.namespace + topic).strip('/')}/{dds_name(type_name)}/{self._hash(type_name)}"

    def publisher(self, topic: str, type_name: str) -> Any:
        """Declare a topic's publisher and its liveliness token."""
        self.count += 1
        number = self.count
        parts = _mangled(self.namespace + topic), dds_name(type_name), self._hash(type_name), QOS
        token = f"{self.begin}/{number}/MP/{self.node}/{'/'.join(parts)}"
        self.gids[topic] = gid(token)
        if topic in self.tokens:
            self.tokens.pop(topic).undeclare()
        self.tokens[topic] = self.session.liveliness().declare_token(token)
        return self.session.declare_publisher(self.key(topic, type_name))

    def attachment(self, topic: str) -> bytes:
        """Return the sample's number from 1, the time now, and its publisher's id, as zenoh's serialiser would."""
        self.numbers[topic] += 1
        return struct.pack("<qqB", self.numbers[topic], time.time_ns(), 16) + self.gids[topic]

    def _hash(self, type_name: str) -> str:
        return NO_HASH if self.form == "humble" else type_hash(type_name)


def dds_name(type_name: str) -> str:
    """Return a type's DDS name, as ``sensor_msgs::msg::dds_::Image_``."""
    package, _, name = type_name.split("/")
    return f"{package}::msg::dds_::{name}_"


def gid(token: str) -> bytes:
    """Return the 16 bytes of a publisher's id: XXH3 of its token, the lower half first."""
    try:
        import xxhash
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "xxhash", "xxhash is missing: pip install 'edgemtl-runtime[zenoh]'")
        ) from error
    return xxhash.xxh3_128_intdigest(token.encode()).to_bytes(16, "little")


def domain() -> int:
    """Return ROS 2's domain id from the environment's ROS_DOMAIN_ID, else 0."""
    text = os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_DOMAIN):
        raise EdgemtlError(f"ROS_DOMAIN_ID is '{text}'; give a number from 0 to {MAX_DOMAIN}")
    return int(text)


def check_namespace(prefix: str) -> None:
    """Raise `EdgemtlError` where a prefix is no namespace of ROS 2."""
    if prefix and not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part) for part in prefix.split("/")):
        raise EdgemtlError(f"--prefix {prefix}: ROS 2 wants letters, digits and '_' between slashes, no digit in front")


def _mangled(name: str) -> str:
    return name.replace("/", "%") or "%"
