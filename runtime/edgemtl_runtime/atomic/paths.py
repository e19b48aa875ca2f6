"""Output paths: normalised, free, numbered, and inside which finished artefact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ..errors import EdgemtlError
from . import disk
from .inventory import read_inventory


class ExistsError(EdgemtlError):
    """The output path holds, or lies in, something that must not be replaced."""


def resolve_parent(path: str | os.PathLike[str]) -> Path:
    """Return a path with its parent resolved, but not its own name: a symbolic link there stays visible."""
    given = Path(path)
    try:
        if given.name in ("", ".."):
            return given.resolve()
        return given.parent.resolve() / given.name
    except (OSError, RuntimeError, ValueError) as error:
        raise ExistsError(f"{path}: is no path to write to ({error})") from error


def unfinished(path: str | os.PathLike[str]) -> Path:
    """Return the path of the interrupted work on an output."""
    return disk.sibling(resolve_parent(path), "unfinished")


def next_free(path: Path, file: bool = False) -> Path:
    """Return the first of ``path``, ``path-2``, ``path-3`` … that does not exist, finished or unfinished."""
    return next(candidate for candidate in numbered(path, file) if is_free(candidate))


def numbered(path: Path, file: bool = False) -> Iterator[Path]:
    """Yield ``path``, ``path-2``, ``path-3`` … without end; a ``file`` has the number before its suffix."""
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}" if file else f"{path.name}-{number}")


def is_free(path: Path) -> bool:
    """Whether nothing exists at ``path``, and nothing unfinished next to it."""
    return not os.path.lexists(path) and not os.path.lexists(unfinished(path))


def outermost_artefact(path: Path) -> Path | None:
    """Return the outermost finished artefact of ours that is or contains ``path``; None where there is none."""
    outermost = None
    for parent in (path.absolute(), *path.absolute().parents):
        inventory = read_inventory(parent)
        if inventory is not None and inventory.finished:
            outermost = parent
    return outermost
