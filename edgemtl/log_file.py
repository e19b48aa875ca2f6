"""The log of a training that runs: a line of JSON a step, appended to a file, of which little is held in memory.

A kill leaves whole lines and the beginning of one more. A checkpoint stores how long the file was, and a training that
is resumed cuts off what lies behind.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .console import print_message
from .training_log import VAL, Row

PLOTTED = 4000
"""At most so many points a curve: of more steps, each is the mean of several."""
MAX_LINE_BYTES = 1 << 20
_decoder = msgspec.json.Decoder(dict[str, int | float | None])


class TrainingLog:
    """One row a step: the step, the learning rate, and the metrics of the step.

    The last row can be added to; those before it are in the file, or in memory until `open` names one.
    """

    def __init__(self) -> None:
        self._stream: io.BytesIO | io.FileIO = io.BytesIO()
        self._unwritten = bytearray()
        self._size = 0
        """The length of the log in bytes, without the last row."""
        self._last: Row = {}
        self._failed = False
        self.file: Path | None = None

    def add(self, step: int, lr: float, metrics: Row) -> None:
        """Append the row of a step."""
        if self._last:
            self._append(msgspec.json.encode(self._last) + b"\n")
        self._last = {"step": step, "lr": lr, **metrics}

    def annotate(self, metrics: Row) -> None:
        """Add columns to the last row."""
        self._last |= metrics

    def last(self) -> Row:
        """Return a copy of the last row, {} before the first."""
        return dict(self._last)

    def open(self, file: Path) -> None:
        """Continue in ``file``: the one that `load_state` restored, cut to its length, else a new one."""
        earlier = self._stream.getvalue() if isinstance(self._stream, io.BytesIO) else b""
        try:
            if len(earlier) < self._size:
                self._stream = _cut(file, self._size, self._last)
                self._size = self._stream.seek(0, os.SEEK_END)
            else:
                file.unlink(missing_ok=True)  # of a training that was killed before its first checkpoint
                self._stream = _opened(file, os.O_CREAT | os.O_EXCL)
                self._size = 0
                self._append(earlier)
            self.file = file
        except OSError as error:
            self._report(error)

    def discard(self) -> None:
        """Keep no row but the last: another process writes the log."""
        self._stream = io.FileIO(os.devnull, "r+")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores, once the rows so far are on the disk."""
        self._append(b"")
        if self.file and not self._unwritten:
            os.fsync(self._stream.fileno())
        return {"size": self._size, "last": self._last}

    def load_state(self, state: dict[str, Any] | list[Row]) -> None:
        """Restore what `state` returned, before `open`; earlier checkpoints hold all rows themselves."""
        if isinstance(state, dict):
            self._size, self._last = state["size"], state["last"]
            return
        for row in state:
            self.add(int(row["step"]), row["lr"], row)

    def rows(self) -> Iterator[Row]:
        """Yield every row, read from the file."""
        self._stream.seek(0)
        for line in io.BufferedReader(_Unclosed(self._stream)):
            yield _row(line)
        for line in bytes(self._unwritten).splitlines():
            yield _row(line)
        if self._last:
            yield self.last()

    def evaluations(self) -> list[Row]:
        """Return the rows of the steps after which the network was evaluated."""
        return [row for row in self.rows() if any(name.startswith(VAL) for name in row)]

    def plotted(self) -> list[Row]:
        """Return the rows, or so many means of consecutive ones that there are no more than `PLOTTED`."""
        count = sum(1 for _ in self.rows())
        size = -(-count // PLOTTED)
        if size <= 1:
            return list(self.rows())
        means, part = [], list[Row]()
        for index, row in enumerate(self.rows(), 1):
            part.append(row)
            if index % size == 0 or index == count:
                means.append(_mean(part))
                part = []
        return means

    def write(self, folder: Path) -> None:
        """Write ``log.csv``."""
        names = list(dict.fromkeys(name for row in self.rows() for name in row))
        with (folder / "log.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(names)
            writer.writerows([row.get(name, "") for name in names] for row in self.rows())

    def _append(self, line: bytes) -> None:
        """Write at the end; what a full disk does not take is kept for the next time."""
        self._size += len(line)
        self._unwritten += line
        try:
            self._stream.seek(0, os.SEEK_END)
            while self._unwritten:
                del self._unwritten[: self._stream.write(self._unwritten) or 0]
        except OSError as error:
            self._report(error)

    def _report(self, error: OSError) -> None:
        if not self._failed:
            print_message(f"the log cannot be written ({error}); training goes on, and its rows are kept in memory")
        self._failed = True


class _Unclosed(io.RawIOBase):
    """A stream to read that stays open when its reader is closed."""

    def __init__(self, stream: io.BytesIO | io.FileIO) -> None:
        self.stream = stream

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read into a buffer."""
        return self.stream.readinto(buffer)


def _opened(file: Path, flags: int = 0) -> io.FileIO:
    return io.FileIO(os.open(file, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666), "r+")


def _cut(file: Path, size: int, following: Row) -> io.FileIO:
    """Open a log cut to its length, or emptied where it is not the one that the row ``following`` follows."""
    stream = _opened(file, os.O_CREAT)
    stream.seek(max(0, size - MAX_LINE_BYTES))
    lines = stream.read(min(size, MAX_LINE_BYTES)).splitlines(keepends=True)[-1:]
    try:
        belongs = stream.tell() == size and lines[0].endswith(b"\n") and _row(lines[0])["step"] + 1 == following["step"]
    except (msgspec.MsgspecError, LookupError):
        belongs = False
    if not belongs:
        print_message(f"{file}: is not the log of this training up to step {following['step']}; it begins anew")
    stream.truncate(size if belongs else 0)
    return stream


def _row(line: bytes) -> Row:
    # JSON has no NaN.
    return {name: float("nan") if value is None else value for name, value in _decoder.decode(line).items()}


def _mean(rows: list[Row]) -> Row:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: sum(of_name) / len(of_name) for name, of_name in values.items()} | {"step": rows[-1]["step"]}
