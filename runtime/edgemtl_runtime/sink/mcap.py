"""Pictures and results as an MCAP file of ROS 2 messages, which robotics viewers and ``ros2 bag`` read as it is."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from ..errors import EdgemtlError
from ..frame import FramePair
from ..messages import Message, definition
from ..messages import write as cdr
from ..messages.cameras import Setup
from ..messages.ros import NO_SETUP, measure_wall_offset_ns, of_pair
from ..result import Result

CHUNK_BYTES = 1 << 20
"""A chunk is on its way to the disk once it has grown to this; a kill costs no more than what came after the last."""


class McapFile:
    """Writes ``/camera/NAME/image`` or ``.../image/compressed``, ``/HEAD`` and ``/result``, stamped in Unix time.

    With a rig ``/camera/NAME/camera_info``, and of boxes ``/camera/NAME/annotations``, which Foxglove draws on it.

    It is written aside as ``.NAME.part`` and has its name when it is complete. After a kill the part is whole up to
    its last chunk. ``wall_offset_ns`` is what the frames' clock lacks to Unix time; measured once where it is None.
    """

    name = "mcap"
    on_main_thread = False

    def __init__(self, file: Path, wall_offset_ns: int | None = None, setup: Setup = NO_SETUP) -> None:
        try:
            from mcap.writer import Writer
        except ImportError as error:
            raise EdgemtlError(f"{file}: mcap is missing: pip install 'edgemtl-runtime[mcap]'") from error
        self.file, self.setup = file, setup
        self.part = file.with_name(f".{file.name}.part")
        self.wall_offset_ns = measure_wall_offset_ns() if wall_offset_ns is None else wall_offset_ns
        self.schemas: dict[type[Message], int] = {}
        self.channels: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.stream: BinaryIO = self.part.open("wb")
        except OSError as error:
            raise EdgemtlError(f"{file}: cannot be written ({error.strerror})") from error
        self.writer = Writer(self.stream, CHUNK_BYTES)
        self.writer.start("ros2", "edgemtl")

    def write_pair(self, pair: FramePair) -> None:
        """Write the pictures alone: a recording without results."""
        self.write(pair, None)

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Write the pictures and, where there is one, the result; raises `EdgemtlError` when the disk is full."""
        try:
            for topic, stamp_ns, message in of_pair(pair, result, self.wall_offset_ns, self.setup):
                channel = self._channel(topic, type(message))
                self.writer.add_message(channel, stamp_ns, cdr(message), stamp_ns, self.counts[topic])
                self.counts[topic] += 1
            self.stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _channel(self, topic: str, kind: type[Message]) -> int:
        if kind not in self.schemas:
            self.schemas[kind] = self.writer.register_schema(kind.TYPE, "ros2msg", definition(kind).encode())
        if topic not in self.channels:
            self.channels[topic] = self.writer.register_channel(topic, "cdr", self.schemas[kind])
        return self.channels[topic]

    def _failed(self, error: OSError) -> EdgemtlError:
        with contextlib.suppress(OSError):  # closing tries once more to write what is left
            self.stream.close()
        return EdgemtlError(f"{self.file}: cannot be written ({error.strerror}); what was recorded is in {self.part}")

    def close(self) -> None:
        """Finish the file and give it its name; without a message there is no file, after a failure only the part."""
        if self.stream.closed:
            return
        if not self.counts:
            self.stream.close()
            self.part.unlink(missing_ok=True)
            return
        try:
            self.writer.finish()  # type: ignore[no-untyped-call]
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()
            self.part.replace(self.file)
        except OSError as error:
            raise self._failed(error) from error
