"""What recordings have in common: file after file, each whole by itself, none lost to a kill or a full disk."""

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
from .partial_file import PartialFile, fsync
from .rotation import NO_LIMITS, Member, Rotation, RotationLimits

FLUSH_S = 1.0
"""What waits in memory is handed to the system at least this often: no more is lost when the program is killed."""
MEND_S = 2.0
"""Making whole what a killed program left is waited for no longer; it goes on beside the run."""
TOLD = 50
"""The latest names that the statistics list."""
log = logging.getLogger("edgemtl_runtime")


class Segment(Protocol):
    """One file of a recording while it is written."""

    @property
    def size(self) -> int:
        """Bytes that the file has, or would have if it were finished now."""
        ...

    def write(self, pair: FramePair, result: Result | None) -> None:
        """Take one pair."""
        ...

    def flush(self) -> None:
        """Hand what waits in memory to the system."""
        ...

    def finish(self) -> None:
        """Write what makes the file complete."""
        ...


@dataclass
class Tally:
    """Of a recording so far: names of files written and recovered, how many there were, what was deleted for room."""

    sink: str
    names: deque[str] = field(default_factory=lambda: deque(maxlen=TOLD))
    recovered: deque[str] = field(default_factory=lambda: deque(maxlen=TOLD))
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
        """Return it in one line."""
        latest = self.names[-1] if self.names else "no file"
        said = [f"{self.files} files, the latest {latest}" if self.files > 1 else latest]
        said += [f"recovered {name}" for name in self.recovered]
        if self.deleted:
            said.append(f"{self.deleted} of the oldest deleted ({self.deleted_bytes / 1e6:.1f} MB)")
        return "; ".join(said)


class FileSink:
    """Base of the sinks that write files: subclasses begin a `Segment`, know their own files, and mend what was left.

    A file is written aside and named when it is complete; one that exists is never opened. ``tally`` tells the names.
    Raises `EdgemtlError` at once where nothing can be written, and when the disk is full.
    """

    name = "recorder"
    suffix = ""
    on_main_thread = False
    is_named_early = False
    """Whether a file has its name from the first result on."""
    needs_room = False
    """Whether mending makes a file longer."""

    def __init__(self, given: str | Path, limits: RotationLimits = NO_LIMITS) -> None:
        self.limits = limits
        self.tally = Tally(self.name)
        self.rotation = Rotation(given, self.suffix, limits, self.is_ours, self._removed, self.name)
        self.lock = threading.Lock()
        self.segment: Segment | None = None
        self.begun_ns = self.step = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.mending = threading.Thread(target=self._mend_left, name=f"mend-{self.name}", daemon=True)
        self.mending.start()
        self.mending.join(MEND_S)
        self.part: PartialFile | None = self.rotation.new_part()
        self.flusher = threading.Thread(target=self._flush_often, name=f"flush-{self.name}", daemon=True)
        self.flusher.start()

    def begin(self, part: PartialFile) -> Segment:
        """Begin a file."""
        raise NotImplementedError

    def is_ours(self, file: Path) -> bool:
        """Whether a file's content says that this program wrote it."""
        raise NotImplementedError

    def recover(self, part: Path) -> bool:
        """Make a part whole where it is; False where it holds nothing."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether it can no longer be written."""
        return self.ended.is_set()

    @property
    def file(self) -> Path | None:
        """The latest file: its name where it has one, else what it will be called."""
        if self.part is not None:
            return self.part.name or self.rotation.name_of(self.part.path)
        return Path(self.tally.names[-1]) if self.tally.names else None

    def write(self, pair: FramePair, result: Result | None = None) -> None:
        """Take one pair, in a new file where the limits say so; raises `EdgemtlError` when the disk is full."""
        with self.lock:
            if self.error is not None:
                raise self.error
            with self._telling():
                if self.segment is not None and self._is_over(pair):
                    self._finish()
                if self.segment is None:
                    self.part = self.part or self.rotation.new_part()
                    self._tell_name()
                    self.segment, self.begun_ns = self.begin(self.part), pair.stamp_ns
                    self._name() if self.is_named_early else None
                before = self.segment.size
                self.segment.write(pair, result)
                self.step = max(self.segment.size - before, self.step - self.step // 100)

    def close(self) -> None:
        """Finish the file and give it its name; without a pair there is none, after a failure only the part."""
        self.ended.set()
        with self.lock:
            try:
                if self.error is None and self.segment is not None:
                    with self._telling():
                        self._finish()
            finally:
                part, self.part = self.part, None
                if part is not None:
                    self._leave(part)

    def _leave(self, part: PartialFile) -> None:
        """Remove a part in which nothing is, or close one that could not be written on, and cut off what is half."""
        if self.segment is None:
            part.discard()
            return
        with contextlib.suppress(OSError, EdgemtlError):  # the disk is full, which was told
            if part.name is None and part.failed is not None and not self.needs_room:
                self.recover(part.path)
        part.close()

    def _removed(self, member: Member) -> None:
        level = logging.INFO if self.tally.deleted else logging.WARNING
        log.log(level, "%s: removed %s, the oldest, to keep --keep-mb", self.name, member.path)
        self.tally.deleted += 1
        self.tally.deleted_bytes += member.size

    def _is_over(self, pair: FramePair) -> bool:
        assert self.segment is not None
        limits = self.limits
        is_long = bool(limits.split_s) and abs(pair.stamp_ns - self.begun_ns) >= 1e9 * limits.split_s
        return is_long or (bool(limits.split_bytes) and self.segment.size + self.step > limits.split_bytes)

    def _finish(self) -> None:
        assert self.segment is not None and self.part is not None
        self.segment.finish()
        self.part.sync()
        self._name() if self.part.name is None else None
        self.part.close()
        self.segment = self.part = None

    def _tell_name(self) -> None:
        assert self.part is not None
        aim = self.rotation.name_of(self.part.path)
        level = logging.INFO if self.tally.files or str(aim) == str(self.rotation.given) else logging.WARNING
        log.log(level, "%s: writes %s", self.name, aim)

    def _name(self) -> None:
        assert self.part is not None
        aim = self.rotation.name_of(self.part.path)
        name = self.rotation.publish(self.part)
        if name != aim:
            log.warning("%s: %s is taken; this is %s", self.name, aim, name)
        self.tally.names.append(str(name))
        self.tally.files += 1

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell a refusal of the file system in one line, and keep it."""
        try:
            yield
        except OSError as error:
            told = EdgemtlError(
                f"{self.name} {self.rotation.given}: cannot be written ({error.strerror or error}); "
                f"what was recorded is in {self.part.path if self.part else self.rotation.folder}"
            )
            self.error = told
            raise told from error
        except EdgemtlError as error:
            self.error = error
            raise

    def _flush_often(self) -> None:
        """Bring what was written onto the disk, so that little is left to be done when a file ends."""
        while not self.ended.wait(FLUSH_S):
            with self.lock:
                if self.segment is None or self.part is None or self.error is not None or self.ended.is_set():
                    continue
                with contextlib.suppress(EdgemtlError), self._telling():  # it is kept, and raised by the next write
                    self.segment.flush()
                descriptor = self.part.same()
            try:
                fsync(descriptor)
            except OSError as error:
                with self.lock, contextlib.suppress(EdgemtlError), self._telling():
                    raise error
            finally:
                os.close(descriptor)

    def _mend_left(self) -> None:
        for name in self.rotation.take_left(self.recover):
            self.tally.recovered.append(str(name))
            log.warning("%s: recovered %s, which an earlier run was writing when it ended", self.name, name)
