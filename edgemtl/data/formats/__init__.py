"""Ways that data sets are laid out on disk, a file each: which folders they know, and what is in them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

from ...errors import DataError
from ..annotations import Index
from ..policies import POLICIES

NAMES = ("llvip", "flir", "m3fd", "kaist", "nyud", "cityscapes", "celeba", "coco", "folder")
"""In the order in which they are asked whether a folder is theirs."""


class Layout(Protocol):
    """A module of this package."""

    def matches(self, root: Path) -> bool:
        """Whether the folder is laid out so."""

    def index(self, root: Path, labels: str) -> Index:
        """List the splits "train", "val" and "test", and what is wrong; ``labels`` is one of the policies."""


def index(path: str | Path, labels: str = "fused") -> Index:
    """List a data set by the layout that its folder shows."""
    if labels not in POLICIES:
        raise DataError(f"label policy '{labels}' is not one of {', '.join(POLICIES)}")
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder")
    layouts: list[Layout] = [import_module(f".{name}", __name__) for name in NAMES]  # type: ignore[misc]
    return next(layout for layout in layouts if layout.matches(root)).index(root, labels)
