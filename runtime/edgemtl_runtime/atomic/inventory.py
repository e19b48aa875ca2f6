"""Inventories: which files a folder of ours holds, with their SHA-256; only what is listed is ever removed."""

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
_MAX_BYTES = 64 << 20
_HEAD = b'{\n "edgemtl": "'


class Inventory(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "edgemtl", "settings": "asked"}
):
    """Content of `INVENTORY`: the kind of artefact, its files (relative path to SHA-256) and its folders."""

    kind: str
    finished: bool = False
    settings: dict[str, Any] = {}
    """Settings of the command that writes the folder, compared when an unfinished one is resumed."""
    files: dict[str, str] = {}
    folders: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the inventory as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read_inventory(folder: Path) -> Inventory | None:
    """Return a folder's inventory, None where there is none of ours."""
    try:
        descriptor = os.open(folder / INVENTORY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            return None
        try:
            return msgspec.json.decode(stream.read(), type=Inventory)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def is_folder(path: Path) -> bool:
    """Whether this is a folder itself, not a symbolic link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def inventory_of(folder: Path, kind: str, settings: dict[str, Any]) -> Inventory:
    """Return the finished inventory of all that a folder holds."""
    files, folders = {}, []
    for name, entry in walk(folder):
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        else:
            files[name] = sha256(Path(entry.path))
    return Inventory(kind, True, settings, files, tuple(folders))


def untracked(folder: Path, inventory: Inventory, hashes: bool = True) -> str:
    """Return the first entry that is not in the inventory or, with ``hashes``, was changed; empty for none."""
    folders = frozenset(inventory.folders)
    for name, entry in walk(folder):
        if entry.is_symlink():
            return name
        if entry.is_dir(follow_symlinks=False):
            if name not in folders:
                return f"{name}/"
        elif name not in inventory.files or not entry.is_file(follow_symlinks=False):
            return name
        elif hashes and not _has_hash(Path(entry.path), inventory.files[name]):
            return f"{name} (changed since)"
    return ""


def _has_hash(file: Path, expected: str) -> bool:
    try:
        return sha256(file) == expected
    except OSError:  # what cannot be read is not known to be ours
        return False


def walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (relative name, entry) of all in a folder, at every depth, without `INVENTORY`; links are not followed."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        name = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        if name == INVENTORY:
            continue
        yield name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), f"{name}/")


def list_file(folder: Path, name: str) -> None:
    """List a file that was added to a finished folder of ours: it is then replaced with the folder.

    A folder without an inventory, of which one of ours was copied in part, is left as it is.
    """
    inventory = read_inventory(folder)
    if inventory is None:
        return
    listed = msgspec.structs.replace(inventory, files={**inventory.files, name: sha256(folder / name)})
    partial = folder / f"{INVENTORY}.{os.getpid()}"
    try:
        partial.write_bytes(listed.encode())
        partial.replace(folder / INVENTORY)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_tree(folder: Path) -> None:
    """Flush a folder and all that it holds to the disk."""
    for _, entry in walk(folder):
        disk.sync(Path(entry.path))
    disk.sync(folder)


def discard(folder: Path) -> None:
    """Remove a folder of ours: an unfinished one whole, of a finished one what its inventory lists.

    The inventory is removed last, so that the rest of an interrupted removal is still known as ours. Without one, only
    an empty folder is removed, or one with a truncated inventory and nothing else.
    """
    if not is_folder(folder) or os.lstat(folder).st_uid != os.getuid():
        return
    inventory = read_inventory(folder)
    if inventory is None:
        _remove_truncated(folder)
    else:
        tracked = frozenset((*inventory.files, *inventory.folders))
        for name, entry in sorted(walk(folder), key=lambda item: item[0], reverse=True):  # contents before their folder
            if inventory.finished and name not in tracked:
                continue
            if entry.is_dir(follow_symlinks=False):
                _remove_folder(Path(entry.path))
            else:
                Path(entry.path).unlink()
        with os.scandir(folder) as entries:
            if any(entry.name != INVENTORY for entry in entries):
                return
        (folder / INVENTORY).unlink()
    _remove_folder(folder)


def _remove_truncated(folder: Path) -> None:
    """Remove an inventory that a kill or a full disk cut off, where it is the only file."""
    file = folder / INVENTORY
    with os.scandir(folder) as entries:
        is_only = [entry.name for entry in entries] == [INVENTORY]
    if is_only and stat.S_ISREG(os.lstat(file).st_mode) and file.stat().st_size <= _MAX_BYTES:
        content = file.read_bytes()
        if content.startswith(_HEAD) or _HEAD.startswith(content):
            file.unlink()


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        if not any(folder.iterdir()):
            raise
