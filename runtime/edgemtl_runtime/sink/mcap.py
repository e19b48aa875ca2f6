"""Pictures and results as MCAP files of ROS 2 messages, which robotics viewers and ``ros2 bag`` read as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import IO, cast

from ..errors import EdgemtlError, missing
from ..frame import FramePair
from ..messages import Message, definition
from ..messages import write as cdr
from ..messages.cameras import Setup
from ..messages.ros import NO_SETUP, of_pair
from ..result import Result
from .family import NO_LIMITS, Limits
from .part import Part
from .recorder import Recorder

CHUNK_BYTES = 1 << 20
"""A chunk is on its way to the disk once it has grown to this; a kill costs no more than what came after the last."""
LIBRARY = "edgemtl"
"""What the header of our files names as their writer."""
INDEX_BYTES = 100
"""About what the index at the end has for a chunk, and again for each of its channels."""


class McapFile(Recorder):
    """Writes ``/camera/NAME/image`` or ``.../image/compressed``, ``/HEAD`` and ``/result``, stamped in Unix time.

    With a rig ``/camera/NAME/camera_info``, and of boxes ``/camera/NAME/annotations``, which Foxglove draws on it.
    After a kill the part is whole up to its last chunk, which is no older than a second. ``wall_offset_ns`` is what the
    frames' clock lacks to Unix time; where it is None the wall clock is followed.
    """

    name = "mcap"
    suffix = ".mcap"
    needs_room = True

    def __init__(
        self,
        given: str | Path,
        wall_offset_ns: int | None = None,
        limits: Limits = NO_LIMITS,
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

    def begin(self, part: Part) -> McapSegment:
        """Begin a file."""
        chunk_bytes = min(CHUNK_BYTES, self.limits.split_bytes // 8 or CHUNK_BYTES)
        return McapSegment(part, self.wall_offset_ns, chunk_bytes, self.setup)

    def is_ours(self, file: Path) -> bool:
        """Whether the header names us."""
        from ..mcap_walk import library_of

        return library_of(file) == LIBRARY

    def mend(self, part: Path) -> bool:
        """Write the end of a file that was cut off; False where it has no message."""
        from ..mcap_mend import mend

        return mend(part).messages > 0

    def write_pair(self, pair: FramePair) -> None:
        """Write the pictures alone: a recording without results."""
        self.write(pair, None)


class McapSegment:
    """One MCAP file: it has its own schemas, channels and index."""

    def __init__(self, part: Part, wall_offset_ns: int | None, chunk_bytes: int, setup: Setup) -> None:
        from mcap.writer import Writer

        self.part, self.wall_offset_ns, self.setup = part, wall_offset_ns, setup
        self.schemas: dict[type[Message], int] = {}
        self.channels: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.waiting = self.end = self.seen = 0
        self.writer = Writer(cast(IO[bytes], part), chunk_bytes)
        self.writer.start("ros2", LIBRARY)

    @property
    def size(self) -> int:
        """Bytes that it would have if it were finished now, at the most."""
        return self.part.size + self.waiting + self.end

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Write the pictures and, where there is one, the result."""
        for topic, stamp_ns, message in of_pair(pair, result, self.wall_offset_ns, self.setup):
            channel, data = self._channel(topic, type(message)), cdr(message)
            self.waiting += len(data) + INDEX_BYTES // 2
            self.writer.add_message(channel, stamp_ns, data, stamp_ns, self.counts[topic])
            self.counts[topic] += 1
            self._note()

    def flush(self) -> None:
        """Close the chunk."""
        self.writer.flush()  # type: ignore[no-untyped-call]
        self._note()

    def finish(self) -> None:
        """Write the index."""
        self.writer.finish()  # type: ignore[no-untyped-call]

    def _note(self) -> None:
        """Note a chunk that was written, if one was."""
        if self.part.size > self.seen:
            self.seen, self.waiting = self.part.size, 0
            self.end += INDEX_BYTES * (1 + len(self.channels))

    def _channel(self, topic: str, kind: type[Message]) -> int:
        if kind not in self.schemas:
            text = definition(kind).encode()
            self.schemas[kind] = self.writer.register_schema(kind.TYPE, "ros2msg", text)
            self.end += 2 * len(text)
        if topic not in self.channels:
            self.channels[topic] = self.writer.register_channel(topic, "cdr", self.schemas[kind])
        return self.channels[topic]
