"""The files of one recording: how they are named, which are its own, how much room they may take."""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EdgemtlError
from .partial_file import PartialFile, fsync, is_same, lock, rename_no_replace

LOOK_NS = 200_000_000
"""Files that other programs add are seen after so long at the latest."""
SHARE = 4
"""Where files are kept to a size and nothing says where they are split, one has at most this part of it."""
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
        """Return limits given in megabytes (10**6) and seconds; raises `EdgemtlError` for what cannot be."""
        if not (0 <= split_mb < 1e9 and 0 <= split_s < 1e9 and 0 <= keep_mb < 1e9):
            raise EdgemtlError("--split-mb, --split-s and --keep-mb are not negative, and below 1e9 (0: no bound)")
        if keep_mb and split_mb > keep_mb / 2:
            raise EdgemtlError(
                f"--split-mb {split_mb:g} with --keep-mb {keep_mb:g}: keep at least twice what one file has"
            )
        split_bytes, keep_bytes = round(split_mb * MB), round(keep_mb * MB)
        return cls(split_bytes or keep_bytes // SHARE, split_s, keep_bytes)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.split_bytes or self.split_s or self.keep_bytes)


NO_LIMITS = RotationLimits()


@dataclass(frozen=True)
class Member:
    """A file of a recording: the number and the time in its name, its path, size in bytes and inode."""

    number: int
    time: str
    path: Path
    size: int
    inode: int


def is_folder(given: str | Path) -> bool:
    """Whether a folder is named: one that is there, or a name that ends in a slash."""
    try:
        return str(given).endswith(("/", os.sep)) or Path(given).is_dir()
    except OSError:  # it may not be looked at; writing will say so
        return False


class Rotation:
    """The files that one ``--mcap``, ``--video`` or ``--jsonl`` names, today and at earlier starts.

    ``given`` is a file's name, which is taken where it is free, or a folder. With limits, in a folder, or where the
    name is taken, files are called NAME-YYYYMMDDTHHMMSSZ-NNN.EXT: UTC, and a number that rises over all of them, so
    that they are in order though a clock was not. ``is_ours`` tells by a file's content whether this program wrote it;
    ``removed`` hears of each that goes to make room.
    """

    def __init__(
        self,
        given: str | Path,
        suffix: str,
        limits: RotationLimits,
        is_ours: Callable[[Path], bool],
        removed: Callable[[Member], None],
        option: str,
    ) -> None:
        path, in_folder = Path(given), is_folder(given)
        self.folder = path if in_folder else path.parent
        self.stem, self.suffix = ("edgemtl", suffix) if in_folder else (path.stem, path.suffix)
        self.plain = None if in_folder or limits else path
        self.given, self.limits, self.option = given, limits, option
        self.is_ours, self.removed = is_ours, removed
        name = re.escape(self.stem)
        dated = rf"{name}-(\d{{8}}T\d{{6}}Z)-(\d{{3,9}})"
        self.dated = re.compile(dated + re.escape(self.suffix))
        self.parts = re.compile(rf"\.(?:{name}|{dated})\.part{re.escape(self.suffix)}")
        self.others_bytes = self.looked_ns = 0
        self.own: PartialFile | None = None
        self.judged: dict[tuple[str, int], bool] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.refused(error) from error

    def refused(self, error: OSError) -> EdgemtlError:
        """Return a file system's refusal in one line."""
        return EdgemtlError(f"{self.option} {self.given}: cannot be written ({error.strerror or error})")

    def new_part(self) -> PartialFile:
        """Begin a file under a name that nobody has; raises `EdgemtlError` where none can be written."""
        self.own = None
        try:
            for name in self.names():
                try:
                    self.own = PartialFile(self.part_of(name), self.make_room, self.spare)
                except FileExistsError:
                    continue
                self.looked_ns = 0
                return self.own
        except OSError as error:
            raise self.refused(error) from error
        raise AssertionError("names do not end")

    def part_of(self, name: Path) -> Path:
        """Return where a file is while it is written: hidden, its ending kept so that players open it."""
        return name.with_name(f".{name.name.removesuffix(self.suffix)}.part{self.suffix}")

    def name_of(self, part: Path) -> Path:
        """Return what `part_of` was given."""
        return part.with_name(part.name.removesuffix(f".part{self.suffix}")[1:] + self.suffix)

    def names(self, first: Path | None = None) -> Iterator[Path]:
        """Yield names that are free now: ``first``, the plain one, then dated ones without end."""
        for name in (first, self.plain):
            if name is not None and not os.path.lexists(name):
                yield name
        used = [*self._members(self.dated), *self._members(self.parts)]
        number = 1 + max((member.number for member in used), default=0)
        while True:
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            name = self.folder / f"{self.stem}-{moment}-{number:03d}{self.suffix}"
            if not os.path.lexists(name):
                yield name
            number += 1

    def publish(self, part: PartialFile) -> Path:
        """Give a part its name: that under which it began, or the next where somebody has taken it."""
        names = self.names(self.name_of(part.path))
        return part.publish(lambda: next(names))

    def make_room(self, count: int) -> None:
        """Remove the oldest finished files until ``count`` more bytes keep the bound."""
        if not self.limits.keep_bytes:
            return
        left = self.limits.keep_bytes - count - (self.own.size if self.own else 0)
        now_ns = time.monotonic_ns()
        if self.others_bytes <= left and now_ns - self.looked_ns < LOOK_NS:
            return
        self.looked_ns = now_ns
        found = self.finished()
        self.others_bytes = sum(member.size for member in [*found, *self.left_parts()])
        for member in found:
            if self.others_bytes <= left:
                return
            if self._remove(member):
                self.others_bytes -= member.size

    def spare(self) -> bool:
        """Remove the oldest finished file, where files may be removed; False where there is none."""
        return bool(self.limits.keep_bytes) and any(self._remove(member) for member in self.finished())

    def finished(self) -> list[Member]:
        """Return the dated files that this program wrote under this name, the oldest first; not that in writing."""
        found = self._members(self.dated)
        inodes = {member.path: (member.path.name, member.inode) for member in found}
        known = self.judged
        self.judged = {key: known[key] if key in known else self.is_ours(path) for path, key in inodes.items()}
        ours = [member for member in found if self.judged[inodes[member.path]]]
        return sorted(ours, key=lambda member: (member.number, member.time))

    def left_parts(self) -> list[Member]:
        """Return the parts of this name that are not the one in writing here: left behind, or of other programs."""
        return sorted(self._members(self.parts), key=lambda member: (member.number, member.time))

    def take_left(self, mend: Callable[[Path], bool]) -> Iterator[Path]:
        """Make whole what killed programs have left, and yield the names that it has then.

        ``mend`` makes a part whole where it is, and says whether there is anything in it. A part that a living program
        holds, and one of other content, is left alone.
        """
        for part in (member.path for member in self.left_parts()):
            try:
                descriptor = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            except OSError:
                continue
            name = None
            try:
                if lock(descriptor) == "ours" and is_same(descriptor, part):
                    name = self._taken(descriptor, part, mend)
            except (EdgemtlError, OSError) as error:
                log.warning("%s: %s, which an earlier run left, is not recovered (%s)", self.option, part, error)
            finally:
                os.close(descriptor)
            if name is not None:
                yield name

    def _taken(self, descriptor: int, part: Path, mend: Callable[[Path], bool]) -> Path | None:
        told = os.fstat(descriptor)
        if not told.st_size or told.st_nlink > 1:  # nothing in it; or it has its name, and was killed before this went
            part.unlink()
            return None
        if not self.is_ours(part):
            return None
        if not mend(part):
            part.unlink()
            return None
        fsync(descriptor)
        for name in self.names(self.name_of(part) if self.dated.fullmatch(self.name_of(part).name) else None):
            if rename_no_replace(part, name):
                return name
        return None

    def _members(self, pattern: re.Pattern[str]) -> list[Member]:
        own = self.own.path.name if self.own else ""
        found = []
        try:
            places = list(self.folder.iterdir())
        except OSError:  # it may not be read, or is gone: writing will say so
            return []
        for place in places:
            match = pattern.fullmatch(place.name)
            if place.name == own or match is None:
                continue
            try:
                told = place.lstat()
            except OSError:  # gone since
                continue
            if stat.S_ISREG(told.st_mode):
                found.append(Member(int(match[2] or 0), match[1] or "", place, told.st_size, told.st_ino))
        return found

    def _remove(self, member: Member) -> bool:
        """Remove a file that is ours and that no living program writes."""
        try:
            descriptor = os.open(member.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return False
        try:
            if lock(descriptor) == "another's" or not is_same(descriptor, member.path):
                return False
            member.path.unlink()
        except OSError:
            return False
        finally:
            os.close(descriptor)
        self.removed(member)
        return True
