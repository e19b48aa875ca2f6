"""Images and results as MCAP files of ROS 2 messages, which robotics viewers and ``ros2 bag`` read as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import IO, cast

from ..errors import EdgemtlError, missing
from ..frame import FramePair
from ..messages.cameras import Setup
from ..messages.ros import NO_SETUP, of_pair
from ..messages.store import definition, serialize
from ..result import Result
from .file_sink import FileSink
from .partial_file import PartialFile
from .rotation import NO_LIMITS, RotationLimits

CHUNK_BYTES = 1 << 20
"""A chunk of this size is written; a kill loses no more than what came after the last one."""
LIBRARY = "edgemtl"
"""The library that our files' headers name."""
INDEX_BYTES = 100
"""About the size of a chunk's entry in the index at the end, and again of each of its channels'."""


class McapFile(FileSink):
    """Writes ``/camera/NAME/image`` or ``.../image/compressed``, ``/HEAD`` and ``/result``, stamped in Unix time.

    With a rig ``/camera/NAME/camera_info``, and of boxes ``/camera/NAME/annotations``, which Foxglove draws on it.
    After a kill the partial file is complete up to its last chunk, at most a second old. ``wall_offset_ns`` is
    Unix time less the frames' clock; where it is None the wall clock is followed.
    """

    name = "mcap"
    suffix = ".mcap"
    recovery_grows = True

    def __init__(
        self,
        given: str | Path,
        wall_offset_ns: int | None = None,
        limits: RotationLimits = NO_LIMITS,
        setup: Setup = NO_SETUP,
    ) -> None:
        try:
            import mcap.writer  # noqa: F401
        except ImportError as error:
            raise EdgemtlError(
                missing(error, "mcap", f"{given}: mcap is missing: pip install 'edgemtl-runtime[mcap]'")
            ) from error
        self.wall_offset_ns, self.setup = wall_offset_ns, setup
        super().__init__(given, limits)

    def begin(self, partial: PartialFile) -> McapSegment:
        """Return a new file to write."""
        chunk_bytes = min(CHUNK_BYTES, self.limits.split_bytes // 8 or CHUNK_BYTES)
        return McapSegment(partial, self.wall_offset_ns, chunk_bytes, self.setup)

    def is_ours(self, file: Path) -> bool:
        """Whether the file's header names our library."""
        from ..mcap_walk import library_of

        return library_of(file) == LIBRARY

    def recover(self, partial: Path) -> bool:
        """Complete a truncated file in place; False where it has no message."""
        from ..mcap_recovery import recover_mcap

        return recover_mcap(partial).messages > 0

    def write_pair(self, pair: FramePair) -> None:
        """Write the images alone: a recording without results."""
        self.write(pair, None)


class McapSegment:
    """One MCAP file with its schemas, channels and index."""

    def __init__(self, partial: PartialFile, wall_offset_ns: int | None, chunk_bytes: int, setup: Setup) -> None:
        from mcap.writer import Writer

        self.partial, self.wall_offset_ns, self.setup = partial, wall_offset_ns, setup
        self.schemas: dict[str, int] = {}
        self.channels: dict[tuple[str, str], int] = {}
        """By topic and type: heads of two bundles may have one name."""
        self.counts: Counter[str] = Counter()
        self.buffered_bytes = self.index_bytes = self.written_bytes = 0
        self.writer = Writer(cast(IO[bytes], partial), chunk_bytes)
        self.writer.start("ros2", LIBRARY)

    @property
    def size(self) -> int:
        """Upper bound of the bytes that it would have if it were finished now."""
        return self.partial.size + self.buffered_bytes + self.index_bytes

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Write the images and, where there is one, the result."""
        for topic, stamp_ns, message in of_pair(pair, result, self.wall_offset_ns, self.setup):
            channel, data = self._channel(topic, message.__msgtype__), serialize(message)
            self.buffered_bytes += len(data) + INDEX_BYTES // 2
            self.writer.add_message(channel, stamp_ns, data, stamp_ns, self.counts[topic])
            self.counts[topic] += 1
            self._update_size()

    def flush(self) -> None:
        """Close the chunk."""
        self.writer.flush()
        self._update_size()

    def finish(self) -> None:
        """Write the index."""
        self.writer.finish()

    def _update_size(self) -> None:
        """Account for a chunk that was written, if one was."""
        if self.partial.size > self.written_bytes:
            self.written_bytes, self.buffered_bytes = self.partial.size, 0
            self.index_bytes += INDEX_BYTES * (1 + len(self.channels))

    def _channel(self, topic: str, type_name: str) -> int:
        if type_name not in self.schemas:
            text = definition(type_name).encode()
            self.schemas[type_name] = self.writer.register_schema(type_name, "ros2msg", text)
            self.index_bytes += 2 * len(text)
        if (topic, type_name) not in self.channels:
            channel = self.writer.register_channel(topic, "cdr", self.schemas[type_name])
            self.channels[topic, type_name] = channel
        return self.channels[topic, type_name]
