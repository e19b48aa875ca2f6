"""Checks of an output path before it is written: symbolic links, mount points and foreign files are never replaced."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from .inventory import INVENTORY, read_inventory, untracked
from .paths import ExistsError, next_free, resolve_parent


def check_file(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Raise `ExistsError` where a file may not be written."""
    file = resolve_parent(path)
    mode = _existing_mode(path, file, "file")
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        raise ExistsError(f"{path}: is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise ExistsError(f"{path}: is no plain file; choose another name")
    if not overwrite:
        raise ExistsError(f"{path}: is there already; --overwrite replaces it, {next_free(file, True).name} is free")


def check_folder(path: str | os.PathLike[str], kind: str, overwrite: bool = False, inside: bool = False) -> None:
    """Raise `ExistsError` where a folder of a kind may not be written; nothing is changed.

    ``inside`` checks an existing folder's files too, which is certain only while its lock is held.
    """
    folder = resolve_parent(path)
    mode = _existing_mode(path, folder, "folder")
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise ExistsError(f"{path}: exists and is a file; choose another folder")
    if reason := _protected(folder):
        raise ExistsError(f"{path}: is {reason}, which is never replaced; name a new folder in it")
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


def _existing_mode(given: str | os.PathLike[str], path: Path, noun: str) -> int | None:
    """Return the ``st_mode`` of what exists at a path, None for nothing.

    Raises `ExistsError` for a symbolic link, and inside a finished artefact, whose inventory would no longer be
    complete.
    """
    for parent in path.parents:
        inventory = read_inventory(parent)
        if inventory is not None and inventory.finished:
            raise ExistsError(f"{given}: lies in {parent}, a finished {inventory.kind}; choose a path next to it")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ExistsError(f"{given}: cannot be written ({reason}); choose another path") from error
    if stat.S_ISLNK(mode):
        raise ExistsError(f"{given}: is a link, which is not followed; name the {noun} itself, or remove the link")
    return mode


def _protected(folder: Path) -> str:
    """Return what a folder is where it must never be replaced, else an empty string."""
    if folder.parent == folder:
        return "the root folder"
    for noun, locate in (("the working folder", Path.cwd), ("your home", Path.home)):
        try:
            location = locate().resolve()
        except (OSError, RuntimeError):
            continue
        if folder == location:
            return noun
        if folder in location.parents:
            return f"a folder that holds {noun}"
    return "a mount point" if folder in _mounts() or os.path.ismount(folder) else ""


def _mounts() -> set[Path]:
    """Return the mount points, bind mounts included, as far as the system lists them."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    octal = re.compile(rb"\\([0-7]{3})")
    points = [octal.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]) for line in lines]
    return {Path(os.fsdecode(point)) for point in points}
