"""Results as JSON lines: one object a pair, each line written whole."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result


class JsonLines:
    """Writes `Result.to_dict` line by line; an older file stands until the first result comes."""

    name = "jsonl"
    on_main_thread = False

    def __init__(self, file: Path) -> None:
        self.begun = False
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.stream = file.open("ab")
        except OSError as error:
            raise EdgemtlError(f"--jsonl {file}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one line."""
        if not self.begun:
            self.begun = True
            with contextlib.suppress(OSError):  # a pipe has no length
                self.stream.truncate(0)
        self.stream.write(msgspec.json.encode(result.to_dict()) + b"\n")
        self.stream.flush()

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
