"""Where an output may stand: what is there already, and places that are never ours to replace."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from ..errors import EdgemtlError
from . import disk
from .inventory import INVENTORY, discard, is_folder, read_inventory, untracked
from .lock import flock, is_lock, let_go


class ExistsError(EdgemtlError):
    """Something that is not to be replaced stands where an output should be."""


def resolve_parent(path: str | os.PathLike[str]) -> Path:
    """Return a path with its folder resolved, but not its own name: a link there stays visible."""
    given = Path(path)
    try:
        if given.name in ("", ".."):
            return given.resolve()
        return given.parent.resolve() / given.name
    except (OSError, RuntimeError, ValueError) as error:
        raise ExistsError(f"{path}: is no place to write to ({error})") from error


def unfinished(path: str | os.PathLike[str]) -> Path:
    """Return where work on an output that was stopped is kept."""
    return disk.sibling(resolve_parent(path), "unfinished")


def next_free(path: Path, file: bool = False) -> Path:
    """Return ``path``, or the first of ``path-2``, ``path-3`` … where nothing stands, and nothing unfinished."""
    return next(candidate for candidate in numbered(path, file) if is_free(candidate))


def numbered(path: Path, file: bool = False) -> Iterator[Path]:
    """Yield ``path``, ``path-2``, ``path-3`` … without an end; of a file the number stands before the ending."""
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}" if file else f"{path.name}-{number}")


def is_free(path: Path) -> bool:
    """Whether nothing stands at ``path``, and nothing unfinished beside it."""
    return not os.path.lexists(path) and not os.path.lexists(unfinished(path))


def outermost_artefact(path: Path) -> Path | None:
    """Return the outermost finished artefact of ours that ``path`` lies in, or is; None where there is none."""
    found = None
    for parent in (path.absolute(), *path.absolute().parents):
        inventory = read_inventory(parent)
        if inventory is not None and inventory.finished:
            found = parent
    return found


def check_file(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Raise `ExistsError` where a file may not be written."""
    file = resolve_parent(path)
    _check_around(path, file)
    mode = _mode(path, file)
    if mode is None:
        return
    if stat.S_ISLNK(mode):
        raise ExistsError(f"{path}: is a link, which is not followed; name the file itself, or remove the link")
    if stat.S_ISDIR(mode):
        raise ExistsError(f"{path}: is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise ExistsError(f"{path}: is no plain file; choose another name")
    if not overwrite:
        raise ExistsError(f"{path}: is there already; --overwrite replaces it, {next_free(file, True).name} is free")


def check_folder(path: str | os.PathLike[str], kind: str, overwrite: bool = False, inside: bool = False) -> None:
    """Raise `ExistsError` where a folder of a kind may not be written; nothing is changed by looking.

    Whether something else is ``inside`` one of ours is only to be seen while nobody writes there.
    """
    folder = resolve_parent(path)
    _check_around(path, folder)
    mode = _mode(path, folder)
    if mode is None:
        return
    if stat.S_ISLNK(mode):
        raise ExistsError(f"{path}: is a link, which is not followed; name the folder itself, or remove the link")
    if not stat.S_ISDIR(mode):
        raise ExistsError(f"{path}: exists and is a file; choose another folder")
    if why := _protected(folder):
        raise ExistsError(f"{path}: is {why}, which is never replaced; name a new folder in it")
    with os.scandir(folder) as entries:
        if not any(True for _ in entries):
            return
    inventory = read_inventory(folder)
    if inventory is None:
        raise ExistsError(f"{path}: exists and holds something else (no {INVENTORY} of ours); choose another folder")
    if inventory.kind != kind or not inventory.finished:
        raise ExistsError(
            f"{path}: exists and holds something else ({inventory.kind}, not {kind}); choose another folder"
        )
    if not overwrite:
        free = next_free(Path(path)) if Path(path).name not in ("", "..") else next_free(folder)
        raise ExistsError(f"{path}: a finished {kind} stands here; --overwrite replaces it, {free} is free")
    if inside and (name := untracked(folder, inventory)):
        raise ExistsError(
            f"{path}: holds {name}, which this program did not write; move it away or choose another folder"
        )


def _mode(told: str | os.PathLike[str], path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ExistsError(f"{told}: cannot be written ({reason}); choose another place") from error


def recover(path: Path, older_s: float = 0.0) -> None:
    """Put back, or clear away, what a process left beside ``path`` that was killed.

    The lock of ``path`` is held; where there is none, only what is ``older_s`` is surely no other process's.
    """
    start = disk.sibling(path, "").name
    shape = re.compile(re.escape(start) + r"[0-9a-f]{16}\.(part|old)")
    with os.scandir(path.parent) as entries:
        found = sorted(entry.name for entry in entries if shape.fullmatch(entry.name))
    for name in found:
        left = path.with_name(name)
        with suppress(FileNotFoundError):
            if older_s and time.time() - os.lstat(left).st_mtime < older_s:
                continue
        if not is_folder(left):
            with suppress(FileNotFoundError):  # its maker was not the first and cleared it away itself
                _clear_lock(left)
        elif name.endswith(".old") and not os.path.lexists(path):
            inventory = read_inventory(left)
            if inventory is not None and inventory.finished and not untracked(left, inventory):
                left.rename(path)
                disk.sync(path.parent)
        elif not _alive(left):
            with suppress(OSError):  # what cannot go stays
                discard(left)


def _alive(part: Path) -> bool:
    """Whether a process that lives holds the inventory of what it writes aside."""
    try:
        descriptor = os.open(part / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    if flock(descriptor):
        let_go(descriptor)
        return False
    os.close(descriptor)
    return True


def _clear_lock(part: Path) -> None:
    """Remove a lock file that never got its name."""
    if part.is_symlink() or not part.is_file() or part.stat().st_size > 100:
        return
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not is_lock(os.pread(descriptor, 200, 0)) or not flock(descriptor):
        os.close(descriptor)
        return
    try:
        part.unlink()
    finally:
        let_go(descriptor)


def _check_around(told: str | os.PathLike[str], path: Path) -> None:
    """Refuse what lies inside a finished artefact: its inventory would no longer tell what is in it."""
    for parent in path.parents:
        inventory = read_inventory(parent)
        if inventory is not None and inventory.finished:
            raise ExistsError(f"{told}: lies in {parent}, a finished {inventory.kind}; choose a place beside it")


def _protected(folder: Path) -> str:
    """Return what a folder is, if it is one that is never replaced."""
    if folder.parent == folder:
        return "the root folder"
    for what, place in (("the working folder", Path.cwd), ("your home", Path.home)):
        try:
            inner = place().resolve()
        except (OSError, RuntimeError):
            continue
        if folder == inner:
            return what
        if folder in inner.parents:
            return f"a folder that holds {what}"
    return "a mount point" if folder in _mounts() or os.path.ismount(folder) else ""


def _mounts() -> set[Path]:
    """Return where file systems are mounted, bound folders too, as far as the system tells."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    octal = re.compile(rb"\\([0-7]{3})")
    places = [octal.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in lines]
    return {Path(os.fsdecode(place)) for place in places}
