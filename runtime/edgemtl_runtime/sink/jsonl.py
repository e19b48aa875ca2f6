"""Results as JSON lines: one object a pair, each line written whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result


class JsonLines:
    """Writes `Result.to_dict` line by line."""

    name = "jsonl"
    on_main_thread = False

    def __init__(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.stream = file.open("wb")
        except OSError as error:
            raise EdgemtlError(f"--jsonl {file}: cannot be written ({error.strerror})") from error

    def write(self, pair: FramePair, result: Result) -> None:
        """Write one line."""
        self.stream.write(msgspec.json.encode(result.to_dict()) + b"\n")
        self.stream.flush()

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
