"""The index of a dataset, before anything of it is decoded: its images, and where each label comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import pixels
from edgemtl_runtime.image_file import ImageFileError
from edgemtl_runtime.pixels import UPRIGHT, StoredImage

from ..errors import EdgemtlError
from .image_lists import is_image
from .label_size import Size, place_on_image, place_on_labels
from .problems import Problem, Problems, raise_problems
from .registration import Registered
from .sample import BoxLabels, Label, Labels, Sample

Image = NDArray[Any]
LabelReader = Callable[[Size | None, Problems], Label | None]
"""Reads a label of an image of that size, if it is known; None, with a problem added, when it cannot be read."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One sample in files: its image files by modality ("rgb", "ir"), and the readers of its labels by task.

    The labels are those of the first image. ``stated_size`` is the image size that the labels name, or what reads it;
    None where they name none. ``exif`` is one of `label_size.ON_IMAGE` where it is known which image the labels are of.
    ``registered`` brings the other images onto the first one's pixels.
    """

    name: str
    images: dict[str, Path]
    labels: Mapping[str, LabelReader]
    is_day: bool | None = None
    stated_size: Size | Callable[[], Size | None] | None = None
    exif: str = ""
    registered: Registered | None = None

    def read(self, problems: Problems) -> Sample | None:
        """Decode the images and their labels; None when the images cannot be used."""
        images = self._read_images(problems)
        size = next(iter(images.values())).shape[:2] if images else None
        labels = {task: read(size, problems) for task, read in self.labels.items()}
        if size is None:
            return None
        readable = {task: label for task, label in labels.items() if label is not None}
        return Sample(images, cast(Labels, readable), self.is_day, self.name)

    def size_of_labels(self) -> Size | None:
        """Return the image size that the labels name, None where they name none."""
        return self.stated_size() if callable(self.stated_size) else self.stated_size

    def _read_images(self, problems: Problems) -> dict[str, Image]:
        """Return the images in the pixels of their labels, if all of them can be used; else none."""
        stored = {modality: read_stored(file, problems) for modality, file in self.images.items()}
        decoded = {modality: image for modality, image in stored.items() if image is not None}
        if len(decoded) < len(self.images):
            return {}
        first, *others = decoded
        stated = self.size_of_labels()
        sizes = [stated] if stated else []
        has_labels = decoded[first].orientation != UPRIGHT and self._look_at_labels(sizes)
        reference = place_on_labels(decoded[first], sizes, has_labels, self.exif, self.images[first], problems)
        if reference is None:
            return {}
        images = {first: to_modality(first, reference, self.images[first], problems)}
        for other in others:
            image = to_modality(other, place_on_image(decoded[other], reference.size), self.images[other], problems)
            images[other] = None if image is None else self._registered(other, image, reference.size, problems)
        usable = {modality: image for modality, image in images.items() if image is not None}
        return usable if len(usable) == len(images) else {}

    def _registered(self, modality: str, image: Image, size: Size, problems: Problems) -> Image | None:
        """Return another camera's image in the pixels of the first one's, or None with a problem added."""
        file, first = self.images[modality], next(iter(self.images))
        if self.registered is not None:
            try:
                return self.registered(image, size)
            except EdgemtlError as error:
                problems.append(Problem(file, 0, str(error)), "registration")
                return None
        if image.shape[:2] == size:
            return image
        (height, width), (h, w) = size, image.shape[:2]
        problems.append(
            Problem(
                file,
                0,
                f"{modality} is {w}x{h}, its {first} image {width}x{height}: sizes must be equal; data.yaml brings "
                "cameras together by rig: FILE, ir_to_rgb: [[…]] (a homography), or resize: true where they see the "
                "same view",
            ),
            f"unequal sizes of {modality} and {first}",
        )
        return None

    def _look_at_labels(self, sizes: list[Size]) -> bool:
        """Return whether any label depends on where pixels are; add the sizes of label maps to ``sizes``."""
        labels = [read(None, Problems()) for read in self.labels.values()]
        sizes += [(x.shape[0], x.shape[1]) for x in labels if isinstance(x, np.ndarray) and x.ndim > 1]
        return any(isinstance(label, BoxLabels) or (label is not None and label.ndim > 1) for label in labels)


@dataclass
class Index:
    """The splits of a dataset, the classes of every task that it labels, and the problems of its files so far."""

    root: Path
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: dict[str, list[Entry]] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def problem(self, file: Path, message: str, line: int = 0) -> None:
        """Add a problem."""
        self.problems.append(Problem(file, line, message))

    def require(self, files: Iterable[Path]) -> bool:
        """Return whether these files exist; each missing one is a problem."""
        missing = [file for file in files if not file.is_file()]
        for file in missing:
            self.problem(file, "does not exist")
        return not missing

    def drop_task(self, task: str) -> None:
        """Leave out a task and its labels."""
        self.classes.pop(task, None)
        for split, entries in self.splits.items():
            self.splits[split] = [
                replace(entry, labels={t: read for t, read in entry.labels.items() if t != task}) for entry in entries
            ]

    def keep_task(self, task: str, labels: Path) -> bool:
        """Keep a task that every split but "test" has labels of, else count those that are skipped.

        ``labels`` is where they are. Returns whether there are any.
        """
        counts = {split: sum(task in entry.labels for entry in entries) for split, entries in self.splits.items()}
        if not any(counts.values()):
            self.classes.pop(task, None)
            return False
        self.classes.setdefault(task, ())
        for split in [split for split, count in counts.items() if not count and split != "test"]:
            self.problems.skip(f"labels of {task}, as split '{split}' has none", labels, count=sum(counts.values()))
            self.drop_task(task)
        return True

    def raise_problems(self) -> None:
        """Raise `DataError` if anything is wrong."""
        raise_problems(self.root, self.problems)


def read_stored(file: Path, problems: Problems) -> StoredImage | None:
    """Decode an image file, or add a problem."""
    try:
        return pixels.read_stored(file)
    except ImageFileError as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def to_modality(modality: str, image: StoredImage, file: Path, problems: Problems) -> Image | None:
    """Return a modality's image, as `edgemtl_runtime.pixels` describes it, or add a problem."""
    try:
        return pixels.as_modality(image, modality)
    except ImageFileError as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def images_in(folder: Path, index: Index) -> dict[str, Path]:
    """Return the images of a folder by stem; a second one of a stem is a problem, other files are skipped."""
    images: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.is_dir() or not is_image(file, index.problems):
            continue
        if file.stem in images:
            index.problem(file, f"has the same stem as {images[file.stem].name}")
        else:
            images[file.stem] = file
    return images


def pair_by_stem(folders: dict[str, Path], index: Index) -> dict[str, dict[str, Path]]:
    """Return the image files by stem and modality; stems that not every folder has are problems."""
    for folder in folders.values():
        if not folder.is_dir():
            index.problem(folder, "this folder does not exist")
            return {}
    images = {modality: images_in(folder, index) for modality, folder in folders.items()}
    check_partners(images, folders, index)
    stems = set.intersection(*(set(files) for files in images.values()))
    return {stem: {modality: files[stem] for modality, files in images.items()} for stem in sorted(stems)}


def check_partners(images: dict[str, dict[str, Path]], folders: dict[str, Path], index: Index) -> None:
    """Add a problem for each image, by modality and stem, without a partner of another modality."""
    for files in images.values():
        for stem in sorted(files):
            other = next((modality for modality in images if stem not in images[modality]), None)
            if other is not None:
                index.problem(files[stem], f"has no {other} partner in {folders[other]}")


def read_list(file: Path, index: Index) -> list[str]:
    """Return the lines of a list of images, without the empty ones; one that is repeated counts once."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        index.problem(file, f"cannot be read as a list of images: {error}")
        return []
    places: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name and places.setdefault(name, number) != number:
            index.problems.skip("repeated lines of lists of images", file, number, name)
    return list(places)


def constant_label(label: Label, size: Size | None, problems: Problems) -> Label:
    """Return a label that has been read already; bound to it, this is a `LabelReader`."""
    return label
