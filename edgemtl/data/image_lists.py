"""The images of a split, from what a description names: folders, lists of files, or several of these."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .exports import candidates, moved
from .problems import Problem, Problems

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
NOT_READ = (
    *(".webp", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".jpe", ".pgm", ".ppm", ".pnm", ".tga", ".psd"),
    *(".dng", ".cr2", ".nef", ".arw", ".raw", ".exr", ".npy"),
)
"""Images, but of types that are not decoded."""
IMAGE_FOLDERS = ("rgb", "ir", "images")
"""Names of folders of images, in whose stead folders of labels stand."""


@dataclass(frozen=True)
class ImageSet:
    """Images by sample name. ``is_complete``: they are all that their folders hold, not a list of some."""

    files: dict[str, Path]
    is_complete: bool = True


def is_image(file: Path, problems: Problems) -> bool:
    """Whether a file is an image of a known type; one of another type is a problem, any other file is skipped."""
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES and not file.name.startswith("."):
        return True
    if suffix in NOT_READ:
        problems.append(Problem(file, 0, f"is not an image of a known type; convert it to {', '.join(IMAGE_SUFFIXES)}"))
    else:
        problems.skip("files that are no images", file)
    return False


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of its sub-folders in the order of their names; hidden folders are not read."""
    walked: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in walked:  # a link to a folder around it
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files))


def image_set(texts: Sequence[str], base: Path, key: str, modality: str, problems: Problems) -> ImageSet | None:
    """Return the images that a key of a description names; None, with a problem added, where one does not exist."""
    files: dict[str, Path] = {}
    is_complete = True
    for text in texts:
        paths = [path for path in candidates(base, text) if path.exists()]
        if "*" in text and not paths:
            listed, root = sorted(base.glob(text)), None
        elif not paths:
            near = moved(base, text)
            hint = f"; {near.relative_to(base)} is there: write {key}: {near.relative_to(base)}" if near else ""
            problems.append(Problem(_normal(candidates(base, text)[0]), 0, f"does not exist; {key} names it{hint}"))
            return None
        elif paths[0].is_dir():
            root = _images_within(_normal(paths[0]), modality)
            listed = _images_below(root, problems)
        else:
            listed, root = _read_list(_normal(paths[0]), base, problems), None
            is_complete = False
        _add(files, listed, root if len(texts) == 1 else None, base, problems)
    return ImageSet(files, is_complete)


def _images_below(folder: Path, problems: Problems) -> list[Path]:
    """Return the images of a folder and its sub-folders; labels next to them are no files to skip."""
    files = list(walk(folder))
    images = {file.with_suffix("") for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
    labels = {file for file in files if file.suffix.lower() == ".txt" and file.with_suffix("") in images}
    return [file for file in files if file not in labels and is_image(file, problems)]


def _images_within(folder: Path, modality: str) -> Path:
    """Return a folder's own folder of images, if it has one next to its labels, else the folder."""
    names = (modality, "images")
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _read_list(file: Path, base: Path, problems: Problems) -> list[Path]:
    """Return the images that a text file lists, a path a line, from the dataset's folder or from the list's."""
    if file.suffix.lower() in IMAGE_SUFFIXES:
        return [file]
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(file, 0, f"cannot be read as a list of images: {error}"))
        return []
    listed = []
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        paths = [path for folder in (base, file.parent) for path in candidates(folder, text)]
        image = next((path for path in paths if path.is_file()), None) or moved(base, text)
        if image is None:
            problems.append(Problem(file, number, f"names {text[:200]}, which does not exist"), f"names nothing {file}")
        elif is_image(image, problems):
            listed.append(_normal(image))
    return listed


def _normal(path: Path) -> Path:
    """Return a path without "..", through symbolic links: labels stand next to the link."""
    return Path(os.path.normpath(path))


def _add(files: dict[str, Path], listed: list[Path], root: Path | None, base: Path, problems: Problems) -> None:
    count = len(files)
    for file in listed:
        name = sample_name(file, root, base)
        before = files.setdefault(name, file)
        if len(files) > count:
            count = len(files)
        elif before == file:
            problems.skip("images that are listed twice", file)
        elif before.parent == file.parent:
            problems.append(Problem(file, 0, f"has the same stem as {before.name}"))
        else:
            problems.append(Problem(file, 0, f"has the same name as {before}"))


def sample_name(file: Path, root: Path | None, base: Path) -> str:
    """Return a sample's name: an image's path without suffix in its folder, or in the dataset but for the camera's."""
    if root is not None:
        return file.relative_to(root).with_suffix("").as_posix()
    parts = list((file.relative_to(base) if file.is_relative_to(base) else file).with_suffix("").parts)
    if (index := image_folder(parts[:-1])) is not None:
        del parts[index]
    return "/".join(parts)


def image_folder(parts: Sequence[str]) -> int | None:
    """Return the index of the last part of a path that is a folder of images, None if none is."""
    return next((index for index in reversed(range(len(parts))) if parts[index].lower() in IMAGE_FOLDERS), None)
