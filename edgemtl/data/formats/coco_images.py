"""Where the images that a JSON file of COCO's names lie, and what lies next to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..description import Description
from ..exports import candidates
from ..problems import Problem, Problems
from ..readers.coco_json import CocoJson
from .coco_files import MODALITY_WORDS, SPLIT_WORDS, LabelFile, folders, named_by, words

GENERIC_FOLDERS = ("images", "data", "JPEGImages")
"""Names of folders of images of any split."""


@dataclass(frozen=True, eq=False)
class NamedImages:
    """The images of a JSON file that exist, by their place in it: modality, path in its folder, and file."""

    label_file: LabelFile
    content: CocoJson
    images: dict[int, tuple[str, PurePosixPath, Path]]

    @property
    def modalities(self) -> set[str]:
        """The cameras of the images."""
        return {modality for modality, _, _ in self.images.values()}


def named_images(
    label_file: LabelFile, content: CocoJson, description: Description, split: str, problems: Problems
) -> NamedImages:
    """Return the images of a file that exist; those that do not are a problem."""
    base = description.base
    by_modality = {
        modality: [path for text in texts for path in candidates(base, text)]
        for modality, texts in description.splits.get(split, {}).items()
        if label_file.modality in ("", modality)
    }
    described_folders = [path for paths in by_modality.values() for path in paths if path.is_dir()]
    folders = list(dict.fromkeys([*described_folders, *image_folders(base, label_file)]))
    on_disk = ImageFolders(folders)
    files = on_disk.locate([row.path for row in content.images])
    missing = [row.path for row, file in zip(content.images, files, strict=True) if file is None]
    if missing:
        kind = "an address, whose image is not downloaded, and it" if "://" in missing[0] else "which"
        where = ", ".join(
            str(folder.relative_to(base) if folder.is_relative_to(base) else folder) for folder in folders[:6]
        )
        message = f"names {missing[0]}, {kind} is in none of the folders {where}"
        problems.append(Problem(content.file, 0, message, len(missing) - 1))
    modality_of: dict[Path, str] = {}
    images = {}
    for index, file in enumerate(files):
        if file is not None:
            if file.parent not in modality_of:
                is_named_ir = any(file.is_relative_to(path) for path in by_modality.get("ir", ()))
                words_of = _modality(file.parent, base)
                modality_of[file.parent] = label_file.modality or ("ir" if is_named_ir else words_of)
            images[index] = modality_of[file.parent], on_disk.inner(file), file
    return NamedImages(label_file, content, images)


def _modality(folder: Path, base: Path) -> str:
    """Return the modality that a folder of images, or the dataset's, is named after; else colour."""
    inner = folder.relative_to(base).parts if folder.is_relative_to(base) else folder.parts[-1:]
    return named_by((base.resolve().name, *inner), MODALITY_WORDS) or "rgb"


@dataclass
class ImageFolders:
    """The folders that may hold the images of a JSON file, and what they hold; a folder is listed once."""

    folders: list[Path]
    listed: dict[str, frozenset[str]] = field(default_factory=dict)
    depths: dict[Path, int] = field(default_factory=dict)
    """How many parts of an image's path lead to the innermost folder, by the image's own folder."""

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
        if file.parent not in self.depths:
            depths = [len(folder.parts) for folder in self.folders if file.is_relative_to(folder)]
            self.depths[file.parent] = max(depths, default=len(file.parts) - 1)
        return PurePosixPath(*file.parts[self.depths[file.parent] :])


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

    train/images has train/depth, rgb/train has ir/train and depth/train; train2017 has depth/train2017 or depth/train.
    """
    if not folder.is_relative_to(root):
        return None
    parts = folder.relative_to(root).parts
    candidates = []
    for depth in reversed(range(len(parts))):
        if parts[depth].lower() in replaced:
            candidates += [root.joinpath(*parts[:depth], name, *parts[depth + 1 :]) for name in names]
    candidates += [root.joinpath(name, *parts) for name in names]
    splits = dict.fromkeys([named_by(parts, SPLIT_WORDS), *(w for w in words("/".join(parts)) if w in SPLIT_WORDS)])
    candidates += [root / name / split for name in names for split in splits if split]
    return next((path for path in candidates if path.is_dir() and path != folder), None)
