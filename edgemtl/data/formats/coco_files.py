"""Where the files of a dataset in COCO's format lie: the words in their paths name split and camera."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MODALITY_WORDS = {
    "rgb": "rgb",
    "visible": "rgb",
    "vis": "rgb",
    "color": "rgb",
    "colour": "rgb",
    "ir": "ir",
    "thermal": "ir",
    "infrared": "ir",
    "lwir": "ir",
}
LABEL_WORDS = {"annotation", "annotations", "coco", "instances", "labels"}
"""Words of a file of boxes, apart from a split's."""
LONE_STEMS = {"result"}
"""Names of files of boxes that have none of these words (Label Studio)."""
OTHER_WORDS = {"caption", "captions", "keypoints", "panoptic", "stuff", "info", "map"}
"""Words of COCO's files that hold no boxes of objects."""
GENERIC_FOLDERS = ("images", "data", "JPEGImages")
DEPTH = 3
"""Folders are looked for so deep."""


def words(text: str) -> list[str]:
    """Return the words of a path, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def named_by(parts: Sequence[str], names: dict[str, str]) -> str:
    """Return what the last part of a path that has such a word names, or nothing where it names two."""
    for part in reversed(parts):
        named = {names[word] for word in words(part) if word in names}
        if named:
            return named.pop() if len(named) == 1 else ""
    return ""


@dataclass(frozen=True)
class LabelFile:
    """A JSON file; ``split`` and ``modality`` are empty where its path does not name them."""

    file: Path
    split: str
    modality: str


def label_files(root: Path) -> list[LabelFile]:
    """Return a dataset's JSON files of boxes by their names."""
    return [describe(file, root) for file in _json_files(root) if not _is_other(file)]


def other_files(root: Path) -> list[Path]:
    """Return COCO's JSON files that hold no boxes of objects, by their names."""
    return [file for file in _json_files(root) if _is_other(file)]


def describe(file: Path, root: Path) -> LabelFile:
    """Return what the path of a JSON file names."""
    parts = file.relative_to(root).with_suffix("").parts if file.is_relative_to(root) else (file.stem,)
    return LabelFile(file, named_by(parts, SPLIT_WORDS), named_by(parts, MODALITY_WORDS))


def _is_other(file: Path) -> bool:
    return bool(OTHER_WORDS & set(words(file.stem)))


def _json_files(root: Path) -> Iterator[Path]:
    """Yield JSON files whose name, or whose folder's, is that of a file of boxes."""
    for folder in folders(root, 2):
        is_annotations = bool({"annotation", "annotations"} & set(words(folder.name))) and folder != root
        for file in sorted(folder.glob("*.json")):
            stem = set(words(file.stem))
            is_lone = folder == root and file.stem in LONE_STEMS
            if is_annotations or is_lone or stem & (LABEL_WORDS | SPLIT_WORDS.keys()):
                yield file


def folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """Return a folder and those in it, so deep; hidden ones are left out."""
    tree = [root]
    if depth:
        with os.scandir(root) as entries:
            inner = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in inner:
            tree += folders(root / name, depth - 1)
    return tree


@dataclass
class ImageFolders:
    """The folders that may hold the images of a JSON file, and what they hold; a folder is listed once."""

    folders: list[Path]
    listed: dict[str, frozenset[str]] = field(default_factory=dict)

    def holds(self, file: str) -> bool:
        """Whether a file exists."""
        folder, name = os.path.split(file)
        if folder not in self.listed:
            try:
                with os.scandir(folder) as entries:
                    self.listed[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self.listed[folder] = frozenset()
        return name in self.listed[folder]

    def locate(self, names: Sequence[str]) -> list[Path | None]:
        """Return the file of each image, None where it is in no folder.

        The folders that hold most of the images come first. Of a path of another machine, or an address, the longest
        end that exists is taken.
        """
        paths = [_path(name) for name in names]
        hits = {folder: sum(self.holds(f"{folder}/{path}") for path in paths) for folder in self.folders}
        ordered = sorted(self.folders, key=lambda folder: -hits[folder])
        return [self._locate(path, ordered) for path in paths]

    def _locate(self, path: PurePosixPath, ordered: list[Path]) -> Path | None:
        if path.is_absolute() and self.holds(str(path)):
            return Path(path)
        parts = path.parts[1:] if path.is_absolute() else path.parts
        for start in range(len(parts)):
            end = PurePosixPath(*parts[start:])
            for folder in ordered:
                if self.holds(f"{folder}/{end}"):
                    return Path(os.path.normpath(folder / end)) if ".." in parts else folder / end
        return None

    def inner(self, file: Path) -> PurePosixPath:
        """Return an image's path in the innermost of the folders that it is in."""
        depth = len(file.parents)
        bases = [len(folder.parts) for folder in self.folders if file.is_relative_to(folder)]
        return PurePosixPath(*file.parts[max(bases, default=depth) :])


def _path(name: str) -> PurePosixPath:
    """Return a path as it is written on any system."""
    return PurePosixPath(name.replace("\\", "/"))


def image_folders(root: Path, label_file: LabelFile) -> list[Path]:
    """Return the folders that may hold a JSON file's images, the likeliest first; those of another split are left out.

    So are those of another camera, if the file is of one.
    """
    parent = label_file.file.parent
    own_names = {*GENERIC_FOLDERS, label_file.file.stem.rpartition("_")[2]}
    named: list[Path] = []
    other: list[Path] = []
    for folder in folders(root):
        parts = folder.relative_to(root).parts
        split, modality = named_by(parts, SPLIT_WORDS), named_by(parts, MODALITY_WORDS)
        is_of_camera = modality in ("", label_file.modality) or not label_file.modality
        is_named = folder.name in own_names or bool(named_by(parts[-1:], SPLIT_WORDS | MODALITY_WORDS))
        if is_named and is_of_camera and split == label_file.split:
            # A camera that nothing names is the colour one, if there is one.
            (named if modality in ("", "rgb", label_file.modality) else other).append(folder)
    generic = [base / name for base in (parent, root) for name in GENERIC_FOLDERS if (base / name).is_dir()]
    return list(dict.fromkeys([parent, *named, *other, *generic, root]))


def sibling(folder: Path, root: Path, names: Sequence[str], replaced: Sequence[str]) -> Path | None:
    """Return the folder next to one of images that has one of ``names`` in the place of one of ``replaced``.

    train/images has train/depth, rgb/train has ir/train and depth/train, and train2017 has depth/train2017.
    """
    if not folder.is_relative_to(root):
        return None
    parts = folder.relative_to(root).parts
    candidates = []
    for depth in reversed(range(len(parts))):
        if parts[depth].lower() in replaced:
            candidates += [root.joinpath(*parts[:depth], name, *parts[depth + 1 :]) for name in names]
    candidates += [root.joinpath(name, *parts) for name in names]
    split = named_by(parts, SPLIT_WORDS)
    candidates += [root / name / split for name in names if split]
    return next((path for path in candidates if path.is_dir() and path != folder), None)
