"""YOLO exports of other tools that have no data.yaml, read as if they had one; and where the paths of exports lead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import DataError

DARKNET_SPLITS = {"train": "train", "valid": "val", "test": "test"}
SPLITS = ("train", "val", "test")
Exported = tuple[Path, dict[str, Any]]
"""A file and the keys of the data.yaml that would describe the same."""


def read_export(root: Path) -> Exported | None:
    """Return the description that an export has in another form, None where there is none."""
    return _darknet(root) or _label_studio(root)


def _darknet(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read an obj.data of Darknet, as CVAT writes it in its format YOLO 1.1: "key = value" a line."""
    files = sorted(root.glob("*.data"))
    if len(files) != 1:
        return None
    pairs = (line.partition("=") for line in files[0].read_text(encoding="utf-8-sig").splitlines() if "=" in line)
    keys = {key.strip(): value.strip() for key, _, value in pairs}
    splits = {
        split: keys[key] for split, key in (("train", "train"), ("val", "valid"), ("test", "test")) if key in keys
    }
    names = next((path for path in candidates(root, keys.get("names", "obj.names")) if path.is_file()), None)
    if names is None:
        raise DataError(f"{files[0]}: names {keys.get('names', 'no file of names')}, which does not exist")
    return files[0], {"names": lines_of(names), **splits}


def _label_studio(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read a classes.txt, as Label Studio and labelImg write it: a name a line; the images are one split."""
    file = root / "classes.txt"
    if not file.is_file():
        return None
    splits = {split: f"images/{split}" for split in SPLITS if (root / "images" / split).is_dir()}
    return file, {"names": lines_of(file), **(splits or {"train": "images" if (root / "images").is_dir() else "."})}


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text, without the empty ones."""
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def candidates(base: Path, text: str) -> list[Path]:
    """Return where a path of a description may lie, the likeliest first.

    Roboflow writes ../train/images into the folder that holds train/; CVAT and Darknet write data/ before paths.
    """
    given = Path(os.path.expandvars(text.replace("\\", "/"))).expanduser()
    paths = [base / given]
    parts = given.parts
    if parts and parts[0] in ("..", "data"):
        paths.append(base.joinpath(*parts[1:]))
    return paths


def moved(base: Path, text: str) -> Path | None:
    """Return what lies below ``base`` under the longest end of another machine's path, None where nothing does."""
    parts = Path(text.replace("\\", "/")).parts
    ends = (base.joinpath(*parts[start:]) for start in range(1, len(parts)))
    return next((path for path in ends if path.exists()), None)
