"""Where the labels of an image are: folders of labels stand in the stead of folders of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from .description import Description, task_folders
from .image_lists import IMAGE_FOLDERS, ImageSet, image_folder
from .problems import Problems

THERMAL_NAMES = ("thermal", "infrared", "lwir", "tir", "t", "ir_images", "thermal_images")
LISTS = frozenset(["classes", "obj", "notes", "readme", "labels", "train", "val", "test", "predefined_classes"])
"""Stems of text files that lie among labels and are none."""


@dataclass(frozen=True)
class LabelFile:
    """Where an image's label is, or would be."""

    file: Path
    exists: bool
    has_folder: bool


@dataclass
class LabelFinder:
    """Finds the label files of a split's images, by folder: of boxes "labels", of maps "semantic" and so on.

    Of an image's path its last folder of images is replaced: rgb/train has depth/train, and train/images has
    train/labels. Where there is none, labels/SPLIT belongs to the split; else boxes lie next to the images.
    """

    description: Description
    split: str
    folders: dict[tuple[str, Path], Path] = field(default_factory=dict)
    """Folders of labels by name and folder of images."""
    listed: dict[Path, dict[str, str]] = field(default_factory=dict)
    """Names of files by stem, of each folder that was looked into."""
    matched: dict[Path, set[str]] = field(default_factory=dict)
    """Stems that an image has, of each folder."""

    def find(self, name: str, image: Path, suffixes: tuple[str, ...]) -> LabelFile:
        """Return the file of an image in the folder ``name``."""
        key, searched = image.stem, (name, image.parent)
        if searched not in self.folders:
            folder = self.folder(name, image.parent)
            if not folder.is_dir() and name == "labels" and self._lie_beside(image.parent):
                folder = image.parent
            self.folders[searched] = folder
        folder = self.folders[searched]
        stems = self._stems(folder, suffixes)
        self.matched.setdefault(folder, set()).add(key)
        return LabelFile(folder / stems.get(key, f"{key}{suffixes[0]}"), key in stems, bool(stems) or _is_empty(folder))

    def folder(self, name: str, images: Path) -> Path:
        """Return the folder ``name`` that belongs to a folder of images."""
        base, name = self.description.base, self.description.folder_name(name)
        inner = images.relative_to(base) if images.is_relative_to(base) else images
        parts = list(inner.parts)
        if (index := image_folder(parts)) is not None:
            return base.joinpath(*parts[:index], name, *parts[index + 1 :])
        return base / name / self.split

    def _stems(self, folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
        if folder not in self.listed:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            of_type = [file for file in files if file.suffix.lower() in suffixes]
            self.listed[folder] = {file.stem: file.name for file in reversed(of_type)}
        return self.listed[folder]

    def _lie_beside(self, images: Path) -> bool:
        return bool(self._stems(images, (".txt",)).keys() - LISTS)

    def skip_orphans(self, images: Iterable[ImageSet], problems: Problems) -> None:
        """Count label files of no image, where all images of the folders are in the split."""
        if not all(view.is_complete for view in images):
            return
        for folder, stems in self.listed.items():
            for stem in sorted(stems.keys() - self.matched.get(folder, set())):
                file = folder / stems[stem]
                if stem in LISTS or stem.startswith("."):
                    problems.skip("files that are no labels", file)
                else:
                    problems.skip("label files without an image", file)


def _is_empty(folder: Path) -> bool:
    """Whether a folder exists and holds nothing: labels of images without objects, and not labels of another type."""
    return folder.is_dir() and not any(folder.iterdir())


def skip_unread_folders(description: Description, problems: Problems) -> None:
    """Count the folders next to those of images that hold splits as well, and that nothing reads."""
    base, splits = description.base, list(description.splits)
    named = {Path(text).parts[0] for views in description.splits.values() for texts in views.values() for text in texts}
    known = {*IMAGE_FOLDERS, *task_folders(), *description.folders.values(), *named}
    for folder in sorted(base.iterdir()):
        if folder.name in known or folder.name.startswith(".") or not any((folder / s).is_dir() for s in splits):
            continue
        if folder.name.lower() in THERMAL_NAMES:
            hint = f"train_ir: {folder.name}/{splits[0]} reads it as that of a second camera"
            problems.skip("folders of thermal images that no key names", folder, detail=hint)
        else:
            problems.skip("folders that nothing reads", folder)


def similar_folder(folder: Path) -> Path | None:
    """Return a folder whose name is nearly that of a folder of labels that does not exist; None if there is none."""
    for wanted in (folder, folder.parent):
        names = [file.name for file in wanted.parent.iterdir() if file.is_dir()] if wanted.parent.is_dir() else []
        names = [name for name in names if name not in task_folders()]
        if not wanted.is_dir() and (near := get_close_matches(wanted.name.lower(), names, 1, 0.7)):
            return wanted.parent / near[0]
    return None
