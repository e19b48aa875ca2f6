"""Base of the sinks that write files: segment after segment, each complete by itself, despite kills and full disks."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import EdgemtlError
from ..frame import FramePair
from ..result import Result
from .file_names import RecordedFile, is_stream
from .partial_file import PartialFile, fsync
from .rotation import NO_LIMITS, Rotation, RotationLimits

FLUSH_INTERVAL_S = 1.0
"""Buffers are flushed to the disk at least this often: a kill loses no more."""
RECOVERY_TIMEOUT_S = 2.0
"""Longest time that the start waits for crash recovery, which then continues during the run."""
RECENT_NAMES = 50
"""Number of the latest names that the statistics list."""
log = logging.getLogger("edgemtl_runtime")


class Segment(Protocol):
    """One file of a recording while it is written."""

    @property
    def size(self) -> int:
        """Bytes that the file has, or would have if it were finished now."""
        ...

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Write one pair."""
        ...

    def flush(self) -> None:
        """Write what is buffered."""
        ...

    def finish(self) -> None:
        """Write what completes the file."""
        ...


@dataclass
class Tally:
    """Counts of a recording so far: names of files written and recovered, their number, what retention deleted."""

    sink: str
    names: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_NAMES))
    recovered: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_NAMES))
    files: int = 0
    deleted: int = 0
    deleted_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON; the names are the latest ones."""
        return {
            "sink": self.sink,
            "files": list(self.names),
            "count": self.files,
            "recovered": list(self.recovered),
            "deleted": self.deleted,
            "deleted_bytes": self.deleted_bytes,
        }

    def __str__(self) -> str:
        """Return the counts in one line."""
        latest = self.names[-1] if self.names else "no file"
        parts = [f"{self.files} files, the latest {latest}" if self.files > 1 else latest]
        parts += [f"recovered {name}" for name in self.recovered]
        if self.deleted:
            parts.append(f"{self.deleted} of the oldest deleted ({self.deleted_bytes / 1e6:.1f} MB)")
        return "; ".join(parts)


class FileSink:
    """Base of the file sinks: subclasses begin a `Segment`, recognise their own files, and recover partial ones.

    A segment is written as a partial file and renamed when it is complete; an existing file is never opened. ``tally``
    has the names. Raises `EdgemtlError` at once where nothing can be written, and when the disk is full.
    """

    name = "file"
    suffix = ""
    on_main_thread = False
    publish_early = False
    """Whether a file has its final name from the first result on."""
    recovery_grows = False
    """Whether recovery makes a file longer, which a full disk does not allow."""

    def __init__(self, given: str | Path, limits: RotationLimits = NO_LIMITS) -> None:
        if is_stream(given) or str(given) == "-":
            raise EdgemtlError(f"{self.name} {given}: is a pipe or a device; give a file or a folder")
        self.limits = limits
        self.tally = Tally(self.name)
        self.rotation = Rotation(given, self.suffix, limits, self.is_ours, self._count_deleted, self.name)
        self.lock = threading.Lock()
        self.segment: Segment | None = None
        self.begun_ns = self.pair_bytes = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()
        recovery = threading.Thread(target=self._recover_leftovers, name=f"recover-{self.name}", daemon=True)
        recovery.start()
        recovery.join(RECOVERY_TIMEOUT_S)
        self.partial: PartialFile | None = self.rotation.new_file()
        threading.Thread(target=self._flush_regularly, name=f"flush-{self.name}", daemon=True).start()

    def begin(self, partial: PartialFile) -> Segment:
        """Begin a segment."""
        raise NotImplementedError

    def is_ours(self, file: Path) -> bool:
        """Whether a file's content shows that this program wrote it."""
        raise NotImplementedError

    def recover(self, partial: Path) -> bool:
        """Complete a partial file in place; False where it holds nothing."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.ended.is_set()

    @property
    def file(self) -> Path | None:
        """Path of the latest file: its name where it has one, else the name that it will get."""
        if self.partial is not None:
            return self.partial.name or self.rotation.names.final_path(self.partial.path)
        return Path(self.tally.names[-1]) if self.tally.names else None

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Write one pair, in a new segment where the limits require it; raises `EdgemtlError` when the disk is full."""
        with self.lock:
            if self.error is not None:
                raise self.error
            with self._recording_errors():
                if self.segment is not None and self._is_over(pair):
                    self._finish()
                if self.segment is None:
                    self.partial = self.partial or self.rotation.new_file()
                    self._log_name(self.partial)
                    self.segment, self.begun_ns = self.begin(self.partial), pair.stamp_ns
                    if self.publish_early:
                        self._publish(self.partial)
                before = self.segment.size
                self.segment.write(pair, result)
                self.pair_bytes = max(self.segment.size - before, self.pair_bytes - self.pair_bytes // 100)

    def close(self) -> None:
        """Finish and rename the segment; without a pair no file is left, after an error only the partial one."""
        self.ended.set()
        with self.lock:
            try:
                if self.error is None and self.segment is not None:
                    with self._recording_errors():
                        self._finish()
            finally:
                partial, self.partial = self.partial, None
                if partial is not None:
                    self._abandon(partial)

    def _abandon(self, partial: PartialFile) -> None:
        """Remove an empty partial file; close one after an error, and cut its torn record off."""
        if self.segment is None:
            partial.discard()
            return
        with contextlib.suppress(OSError, EdgemtlError):  # the disk is full, which was reported
            if partial.name is None and partial.error is not None and not self.recovery_grows:
                self.recover(partial.path)
        partial.close()

    def _count_deleted(self, file: RecordedFile) -> None:
        level = logging.INFO if self.tally.deleted else logging.WARNING
        log.log(level, "%s: removed %s, the oldest, to keep --keep-mb", self.name, file.path)
        self.tally.deleted += 1
        self.tally.deleted_bytes += file.size

    def _is_over(self, pair: FramePair) -> bool:
        """Whether a segment is long enough, or one more pair would make it too large."""
        assert self.segment is not None
        limits = self.limits
        is_long = bool(limits.split_s) and abs(pair.stamp_ns - self.begun_ns) >= 1e9 * limits.split_s
        return is_long or (bool(limits.split_bytes) and self.segment.size + self.pair_bytes > limits.split_bytes)

    def _finish(self) -> None:
        assert self.segment is not None and self.partial is not None
        self.segment.finish()
        self.partial.sync()
        if self.partial.name is None:
            self._publish(self.partial)
        self.partial.close()
        self.segment = self.partial = None

    def _log_name(self, partial: PartialFile) -> None:
        expected = self.rotation.names.final_path(partial.path)
        level = logging.INFO if self.tally.files or str(expected) == str(self.rotation.given) else logging.WARNING
        log.log(level, "%s: writes %s", self.name, expected)

    def _publish(self, partial: PartialFile) -> None:
        expected = self.rotation.names.final_path(partial.path)
        name = self.rotation.publish(partial)
        if name != expected:
            log.warning("%s: %s is taken; this is %s", self.name, expected, name)
        self.tally.names.append(str(name))
        self.tally.files += 1

    @contextlib.contextmanager
    def _recording_errors(self) -> Iterator[None]:
        """Keep an error, so that every later write raises it; one of the file system is raised in one line."""
        try:
            yield
        except OSError as error:
            self.error = EdgemtlError(
                f"{self.name} {self.rotation.given}: cannot be written ({error.strerror or error}); "
                f"what was recorded is in {self.partial.path if self.partial else self.rotation.names.folder}"
            )
            raise self.error from error
        except EdgemtlError as error:
            self.error = error
            raise

    def _flush_regularly(self) -> None:
        """Flush to the disk while recording, so that little is left to be done when a segment ends."""
        while not self.ended.wait(FLUSH_INTERVAL_S):
            with self.lock:
                if self.segment is None or self.partial is None or self.error is not None or self.ended.is_set():
                    continue
                with contextlib.suppress(EdgemtlError), self._recording_errors():  # raised by the next write
                    self.segment.flush()
                descriptor = self.partial.duplicate()
            try:
                fsync(descriptor)
            except OSError as error:
                with self.lock, contextlib.suppress(EdgemtlError), self._recording_errors():
                    raise error
            finally:
                os.close(descriptor)

    def _recover_leftovers(self) -> None:
        for name in self.rotation.recover_leftovers(self.recover):
            self.tally.recovered.append(str(name))
            log.warning("%s: recovered %s, which an earlier run was writing when it ended", self.name, name)
