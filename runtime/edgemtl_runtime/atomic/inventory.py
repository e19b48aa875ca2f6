"""What we wrote into a folder: the inventory in it, what else is there, and how no more than the listed is removed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from . import disk

INVENTORY = ".edgemtl.json"
_LARGEST = 64 << 20
_HEAD = b'{\n "edgemtl": "'


class Inventory(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "edgemtl", "settings": "asked"}
):
    """What a folder of ours is and holds: SHA-256 by path relative to it, and the folders in it."""

    kind: str
    finished: bool = False
    settings: dict[str, Any] = {}
    """What the folder was made by, for those who go on with it."""
    files: dict[str, str] = {}
    folders: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the content of the file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read_inventory(folder: Path) -> Inventory | None:
    """Return a folder's inventory, None where there is none of ours."""
    try:
        descriptor = os.open(folder / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return None
        try:
            return msgspec.json.decode(stream.read(), type=Inventory)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def is_folder(path: Path) -> bool:
    """Whether this is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def listed(folder: Path, kind: str, settings: dict[str, Any]) -> Inventory:
    """Return the inventory of all that a folder holds."""
    files, folders = {}, []
    for name, entry in walk(folder):
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        else:
            files[name] = sha256(Path(entry.path))
    return Inventory(kind, True, settings, files, tuple(folders))


def untracked(folder: Path, inventory: Inventory, hashes: bool = True) -> str:
    """Return the name of something in a folder that its inventory does not have as it is, nothing where all is ours."""
    folders = frozenset(inventory.folders)
    for name, entry in walk(folder):
        if entry.is_symlink():
            return name
        if entry.is_dir(follow_symlinks=False):
            if name not in folders:
                return f"{name}/"
        elif name not in inventory.files or not entry.is_file(follow_symlinks=False):
            return name
        elif hashes and not _is_as_listed(Path(entry.path), inventory.files[name]):
            return f"{name} (changed since)"
    return ""


def _is_as_listed(file: Path, expected: str) -> bool:
    try:
        return sha256(file) == expected
    except OSError:  # what cannot be read is not known to be ours
        return False


def walk(folder: Path, start: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is in a folder, at every depth, by relative name; its own inventory left out, links not followed."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = start + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        if name == INVENTORY:
            continue
        yield name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), f"{name}/")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_tree(folder: Path) -> None:
    """Have a folder with all that it holds on the disk."""
    for _, entry in walk(folder):
        disk.sync(Path(entry.path))
    disk.sync(folder)


def discard(folder: Path) -> None:
    """Remove a folder of ours: an unfinished one whole, a finished one as far as its inventory goes.

    The inventory goes last, so that the rest of a removal that was killed is known for ours. Without one, only a folder
    that is empty goes, or one with the beginning of an inventory and nothing else.
    """
    if not is_folder(folder) or (hasattr(os, "getuid") and os.lstat(folder).st_uid != os.getuid()):
        return
    inventory = read_inventory(folder)
    if inventory is None:
        _remove_beginning(folder)
    else:
        ours = frozenset((*inventory.files, *inventory.folders))
        for name, entry in sorted(walk(folder), key=lambda found: found[0], reverse=True):  # what is in a folder first
            if inventory.finished and name not in ours:
                continue
            if entry.is_dir(follow_symlinks=False):
                _remove_folder(Path(entry.path))
            else:
                Path(entry.path).unlink()
        with os.scandir(folder) as entries:
            left = [entry.name for entry in entries if entry.name != INVENTORY]
        if left:
            return
        (folder / INVENTORY).unlink()
    _remove_folder(folder)


def _remove_beginning(folder: Path) -> None:
    """Remove an inventory that a kill or a full disk cut off, where nothing is beside it."""
    file = folder / INVENTORY
    with os.scandir(folder) as entries:
        alone = [entry.name for entry in entries] == [INVENTORY]
    if alone and stat.S_ISREG(os.lstat(file).st_mode) and file.stat().st_size <= _LARGEST:
        content = file.read_bytes()
        if content.startswith(_HEAD) or _HEAD.startswith(content):
            file.unlink()


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        if not any(folder.iterdir()):
            raise
