"""JSON Lines sink: one result per line, each line complete."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result
from .file_names import OPEN_DESCRIPTOR, is_stream
from .file_sink import FileSink
from .partial_file import PartialFile
from .rotation import NO_LIMITS, RotationLimits

FIELDS = {"index", "camera", "stamp_ns", "skew_ns", "heads"}
"""Keys, among others, of every line of our files."""
READER_S = 3.0
"""How long a pipe may be without a reader at the start."""
LINE_BYTES = 1 << 24
"""No first line of ours is longer."""


class JsonLines:
    """Writes `Result.to_dict` line by line, to files, or to a pipe or device where ``given`` is one; "-" is stdout.

    A file has its final name from the first result on. Raises `EdgemtlError` where nothing can be written.
    """

    name = "jsonl"
    on_main_thread = False

    def __init__(self, given: str | Path, limits: RotationLimits = NO_LIMITS) -> None:
        self.lines: JsonFiles | JsonStream
        given = "/dev/stdout" if str(given) == "-" else given
        if not is_stream(given):
            self.lines = JsonFiles(given, limits)
            self.tally = self.lines.tally
        elif limits:
            raise EdgemtlError(f"--jsonl {given}: is no file, and cannot be split or kept to a size")
        else:
            self.lines = JsonStream(given)

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.lines.closed

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one result."""
        self.lines.write(pair, result)

    def close(self) -> None:
        """Close the file."""
        self.lines.close()


class JsonFiles(FileSink):
    """JSON Lines in files."""

    name = "jsonl"
    suffix = ".jsonl"
    publish_early = True

    def begin(self, partial: PartialFile) -> JsonSegment:
        """Begin a segment."""
        return JsonSegment(partial)

    def is_ours(self, file: Path) -> bool:
        """Whether the first line is a result."""
        try:
            with file.open("rb") as stream:
                line = msgspec.json.decode(stream.readline(LINE_BYTES))
        except (OSError, msgspec.DecodeError):
            return False
        return isinstance(line, dict) and line.keys() >= FIELDS

    def recover(self, partial: Path) -> bool:
        """Return True: every line is complete."""
        return True


class JsonSegment:
    """One JSON Lines file."""

    def __init__(self, partial: PartialFile) -> None:
        self.partial = partial

    @property
    def size(self) -> int:
        """Bytes that the file has."""
        return self.partial.size

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Write one line."""
        assert result is not None, "lines are of results"
        self.partial.write(line_of(result))

    def flush(self) -> None:
        """Do nothing: lines are unbuffered."""

    def finish(self) -> None:
        """Do nothing: a file needs no end."""


class JsonStream:
    """JSON Lines to a pipe, a terminal or an open descriptor."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            self.stream: BinaryIO = os.fdopen(descriptor_of(path), "wb")
        except OSError as error:
            raise EdgemtlError(f"--jsonl {path}: cannot be written ({error.strerror})") from error

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.stream.closed

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one line."""
        try:
            self.stream.write(line_of(result))
            self.stream.flush()
        except BrokenPipeError:  # its reader has ended, which is no error
            raise
        except OSError as error:
            raise EdgemtlError(f"--jsonl {self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Close the stream; what could not be written was reported."""
        with contextlib.suppress(OSError):
            self.stream.close()


def descriptor_of(path: str | Path) -> int:
    """Open a stream for writing; an open descriptor is duplicated and keeps its offset."""
    match = OPEN_DESCRIPTOR.fullmatch(str(path))
    if match is None:
        return _opened(path)
    return os.dup(int(match[1] or {"stdout": 1, "stderr": 2}[match[2]]))


def line_of(result: Result) -> bytes:
    """Return a result as one line of JSON."""
    return msgspec.json.encode(result.to_dict()) + b"\n"


def _opened(path: str | Path) -> int:
    """Open a pipe or device; raises `OSError` where a pipe has no reader, for which a blocking call waits for ever."""
    until_s = time.monotonic() + READER_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until_s:
                raise OSError(errno.ENXIO, "no program reads it; start that first") from None
            time.sleep(0.05)
            continue
        os.set_blocking(descriptor, True)
        return descriptor
