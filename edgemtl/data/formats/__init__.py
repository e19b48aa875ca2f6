"""Formats of datasets on disk, a module each: which folders they match, and the index of one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ...errors import DataError
from ...registry import Registry
from ..annotations import Index
from ..modalities import assign
from ..policies import POLICIES


class Format(Protocol):
    """A module of this package, or what a plugin registers."""

    def matches(self, root: Path) -> bool:
        """Whether the folder has this format."""

    def index(self, root: Path, label_policy: str) -> Index:
        """Index the splits "train", "val" and "test", with the problems of the files."""


_NAMES = ("llvip", "flir", "m3fd", "kaist", "nyud", "cityscapes", "celeba", "coco", "folder")
FORMATS: Registry[Format] = Registry("dataset format", {name: f"{__name__}.{name}" for name in _NAMES})
"""Matched with a folder in this order, those of plugins before; "folder" matches any."""


def index(path: str | Path, label_policy: str = "fused", modality: str = "") -> Index:
    """Index a dataset by the first format that matches its folder; ``label_policy`` is one of `POLICIES`.

    ``modality`` is that of a single camera; without it, 16-bit counts are recognised as thermal.
    """
    if label_policy not in POLICIES:
        raise DataError(f"label policy '{label_policy}' is not one of {', '.join(POLICIES)}")
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder")
    formats = (FORMATS[name] for name in [*FORMATS.origins, *_NAMES])
    result = next(format_ for format_ in formats if format_.matches(root)).index(root, label_policy)
    assign(result, modality)
    _note_shared(result)
    return result


def _note_shared(result: Index) -> None:
    """Count the images to evaluate on that are trained on as well."""
    trained = {file for entry in result.splits.get("train", []) for file in entry.images.values()}
    for split in ("val", "test"):
        shared = [entry for entry in result.splits.get(split, []) if not trained.isdisjoint(entry.images.values())]
        if shared:
            file = next(iter(shared[0].images.values()))
            result.problems.note(f"images of '{split}' that 'train' has too", file, count=len(shared))
