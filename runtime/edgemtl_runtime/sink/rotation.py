"""Rotation and retention of a recording's files, and crash recovery of the partial ones."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EdgemtlError
from .file_names import FileNames, RecordedFile
from .partial_file import PartialFile, fsync, is_same, lock, rename_no_replace

SCAN_INTERVAL_NS = 200_000_000
"""Longest time between two scans of the folder for files that other programs add."""
SHARE = 4
"""Where only the size of all files is bounded, one file has at most this part of it."""
MB = 1_000_000
log = logging.getLogger("edgemtl_runtime")


@dataclass(frozen=True)
class RotationLimits:
    """When a recording begins a new file, and how much of it is kept; 0 sets no bound.

    ``split_bytes`` is the size of one file, ``split_s`` its time in seconds, ``keep_bytes`` the size of all together.
    """

    split_bytes: int = 0
    split_s: float = 0.0
    keep_bytes: int = 0

    @classmethod
    def of(cls, split_mb: float = 0.0, split_s: float = 0.0, keep_mb: float = 0.0) -> RotationLimits:
        """Return limits given in megabytes (10**6) and seconds; raises `EdgemtlError` for invalid ones."""
        if not (0 <= split_mb < 1e9 and 0 <= split_s < 1e9 and 0 <= keep_mb < 1e9):
            raise EdgemtlError("--split-mb, --split-s and --keep-mb are not negative, and below 1e9 (0: no bound)")
        if keep_mb and split_mb > keep_mb / 2:
            raise EdgemtlError(
                f"--split-mb {split_mb:g} with --keep-mb {keep_mb:g}: keep at least twice what one file has"
            )
        split_bytes, keep_bytes = round(split_mb * MB), round(keep_mb * MB)
        return cls(split_bytes or keep_bytes // SHARE, split_s, keep_bytes)

    def __bool__(self) -> bool:
        """Whether any bound is set."""
        return bool(self.split_bytes or self.split_s or self.keep_bytes)


NO_LIMITS = RotationLimits()


class Rotation:
    """The files that one option names, in this run and in earlier ones; the oldest are deleted beyond ``keep_bytes``.

    ``names`` are as of `FileNames`. ``is_ours`` decides by a file's content whether this program wrote it: no other
    file is deleted or recovered. ``on_delete`` is called with each file that was deleted.
    """

    def __init__(
        self,
        given: str | Path,
        suffix: str,
        limits: RotationLimits,
        is_ours: Callable[[Path], bool],
        on_delete: Callable[[RecordedFile], None],
        option: str,
    ) -> None:
        self.names = FileNames(given, suffix, bool(limits))
        self.given, self.limits, self.option = given, limits, option
        self.is_ours, self.on_delete = is_ours, on_delete
        self.other_bytes = self.scanned_ns = 0
        self.current: PartialFile | None = None
        self.ours: dict[tuple[str, int], bool] = {}
        try:
            self.names.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> EdgemtlError:
        return EdgemtlError(f"{self.option} {self.given}: cannot be written ({error.strerror or error})")

    def new_file(self) -> PartialFile:
        """Create the next partial file under a free name; raises `EdgemtlError` where none can be written."""
        self.current = None
        try:
            for name in self.names.free():
                try:
                    self.current = PartialFile(self.names.partial_path(name), self.make_room, self.delete_oldest)
                except FileExistsError:
                    continue
                self.scanned_ns = 0
                return self.current
        except OSError as error:
            raise self._write_error(error) from error
        raise AssertionError("names do not end")

    def publish(self, file: PartialFile) -> Path:
        """Rename a partial file to its final name, or to the next free one where that was taken meanwhile."""
        names = self.names.free(self.names.final_path(file.path))
        return file.publish(lambda: next(names))

    def make_room(self, count: int) -> None:
        """Delete the oldest finished files until ``count`` more bytes keep the bound."""
        if not self.limits.keep_bytes:
            return
        left_bytes = self.limits.keep_bytes - count - (self.current.size if self.current else 0)
        now_ns = time.monotonic_ns()
        if self.other_bytes <= left_bytes and now_ns - self.scanned_ns < SCAN_INTERVAL_NS:
            return
        self.scanned_ns = now_ns
        finished = self.finished()
        self.other_bytes = sum(file.size for file in (*finished, *self.leftovers()))
        for file in finished:
            if self.other_bytes <= left_bytes:
                return
            if self._delete(file):
                self.other_bytes -= file.size

    def delete_oldest(self) -> bool:
        """Delete the oldest finished file, where retention allows it; False where nothing was deleted."""
        return bool(self.limits.keep_bytes) and any(self._delete(file) for file in self.finished())

    def finished(self) -> list[RecordedFile]:
        """Return the dated files that this program wrote under this name, oldest first, without the current one."""
        files = self._without_current(self.names.dated())
        keys = {file.path: (file.path.name, file.inode) for file in files}
        known = self.ours
        self.ours = {key: known[key] if key in known else self.is_ours(path) for path, key in keys.items()}
        return [file for file in files if self.ours[keys[file.path]]]

    def leftovers(self) -> list[RecordedFile]:
        """Return the partial files of this name except the current one: of killed, or of other running programs."""
        return self._without_current(self.names.partial())

    def _without_current(self, files: list[RecordedFile]) -> list[RecordedFile]:
        return [file for file in files if self.current is None or file.path.name != self.current.path.name]

    def recover_leftovers(self, recover: Callable[[Path], bool]) -> Iterator[Path]:
        """Recover the partial files of killed programs, and yield their final names.

        ``recover`` completes a file in place; it returns False where the file holds nothing. A file that a running
        program has locked, or whose content is not ours, is not touched.
        """
        for partial in (file.path for file in self.leftovers()):
            try:
                descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
            except OSError:
                continue
            name = None
            try:
                if lock(descriptor) == "ours" and is_same(descriptor, partial):
                    name = self._recovered(descriptor, partial, recover)
            except (EdgemtlError, OSError) as error:
                log.warning("%s: %s, which an earlier run left, is not recovered (%s)", self.option, partial, error)
            finally:
                os.close(descriptor)
            if name is not None:
                yield name

    def _recovered(self, descriptor: int, partial: Path, recover: Callable[[Path], bool]) -> Path | None:
        status = os.fstat(descriptor)
        if not status.st_size or status.st_nlink > 1:  # empty; or published, and killed before this name was removed
            partial.unlink()
            return None
        if not self.is_ours(partial):
            return None
        if not recover(partial):
            partial.unlink()
            return None
        fsync(descriptor)
        final = self.names.final_path(partial)
        for name in self.names.free(final if self.names.is_dated(final) else None):
            if rename_no_replace(partial, name):
                return name
        return None

    def _delete(self, file: RecordedFile) -> bool:
        """Delete a file unless a running program writes it."""
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            if lock(descriptor) == "another's" or not is_same(descriptor, file.path):
                return False
            file.path.unlink()
        except OSError:
            return False
        finally:
            os.close(descriptor)
        self.on_delete(file)
        return True
