"""Results as JSON lines: one object a pair, each line written whole."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result
from .file_sink import FileSink
from .partial_file import PartialFile
from .rotation import NO_LIMITS, RotationLimits

FIELDS = {"index", "camera", "stamp_ns", "skew_ns", "heads"}
"""What the first line of our files tells, among others."""
OPEN = re.compile(r"/dev/(?:fd/(\d+)|(stdout|stderr))")
"""Paths of open descriptors."""
LINE_BYTES = 1 << 24
"""No first line of ours is longer."""


class JsonLines:
    """Writes `Result.to_dict` line by line, to files, or to a pipe or device where ``given`` is one.

    A file is there, under its name, from the first result on. Raises `EdgemtlError` where nothing can be written.
    """

    name = "jsonl"
    on_main_thread = False

    def __init__(self, given: str | Path, limits: RotationLimits = NO_LIMITS) -> None:
        self.lines: JsonFiles | JsonStream
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
        """Write one line."""
        self.lines.write(pair, result)

    def close(self) -> None:
        """Close the file."""
        self.lines.close()


class JsonFiles(FileSink):
    """Lines in files."""

    name = "jsonl"
    suffix = ".jsonl"
    is_named_early = True

    def begin(self, part: PartialFile) -> JsonSegment:
        """Begin a file."""
        return JsonSegment(part)

    def is_ours(self, file: Path) -> bool:
        """Whether the first line is a result."""
        try:
            with file.open("rb") as stream:
                told = msgspec.json.decode(stream.readline(LINE_BYTES))
        except (OSError, msgspec.DecodeError):
            return False
        return isinstance(told, dict) and told.keys() >= FIELDS

    def recover(self, part: Path) -> bool:
        """Lines are whole as they are."""
        return True


class JsonSegment:
    """One file of lines."""

    def __init__(self, part: PartialFile) -> None:
        self.part = part

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return self.part.size

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Write one line."""
        assert result is not None, "lines are of results"
        self.part.write(line_of(result))

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self) -> None:
        """Nothing is to come."""


class JsonStream:
    """Lines in what is no file of ours: a pipe, a terminal, an open descriptor."""

    def __init__(self, place: str | Path) -> None:
        try:
            self.stream: BinaryIO = os.fdopen(descriptor_of(place), "wb")
        except OSError as error:
            raise EdgemtlError(f"--jsonl {place}: cannot be written ({error.strerror})") from error

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.stream.closed

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one line."""
        self.stream.write(line_of(result))
        self.stream.flush()

    def close(self) -> None:
        """Close it."""
        self.stream.close()


def is_stream(given: str | Path) -> bool:
    """Whether a path leads to a pipe, a device or an open descriptor, which may be a plain file that is written on."""
    try:
        mode = Path(given).stat().st_mode
    except OSError:
        return False
    return OPEN.fullmatch(str(given)) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor_of(place: str | Path) -> int:
    """Open a stream; an open descriptor keeps the place at which the program itself writes."""
    match = OPEN.fullmatch(str(place))
    if match is None:
        return os.open(place, os.O_WRONLY | os.O_APPEND)
    return os.dup(int(match[1] or {"stdout": 1, "stderr": 2}[match[2]]))


def line_of(result: Result) -> bytes:
    """Return a result as one line of JSON."""
    return msgspec.json.encode(result.to_dict()) + b"\n"
