"""The index of a dataset, before anything of it is decoded: its images, and where each label comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime import pixels
from edgemtl_runtime.image_file import ImageFileError

from ..errors import DataError
from .sample import BoxLabels, Label, Labels, Sample

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MAX_PRINTED = 20
"""How many problems an error prints; their count is always printed."""


@dataclass(frozen=True)
class Problem:
    """A problem in the data: the file, the line (0: the whole file), and a message."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


Problems = list[Problem]
Size = tuple[int, int]
"""Height and width, pixels."""
LabelReader = Callable[[Size | None, Problems], Label | None]
"""Reads a label of an image of that size, if it is known; None, with a problem added, when it cannot be read."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One sample in files: its image files by modality ("rgb", "ir"), and the readers of its labels by task."""

    name: str
    images: dict[str, Path]
    labels: Mapping[str, LabelReader]
    is_day: bool | None = None

    def read(self, problems: Problems) -> Sample | None:
        """Decode the images and their labels; None when the images cannot be used."""
        images = {modality: read_image(modality, file, problems) for modality, file in self.images.items()}
        decoded = {modality: image for modality, image in images.items() if image is not None}
        size = self._size(decoded, problems)
        labels = {task: read(size, problems) for task, read in self.labels.items()}
        if size is None:
            return None
        readable = {task: label for task, label in labels.items() if label is not None}
        return Sample(decoded, cast(Labels, readable), self.is_day, self.name)

    def _size(self, images: dict[str, NDArray[Any]], problems: Problems) -> Size | None:
        """Return the size that all the images have, if they all have one."""
        if len(images) < len(self.images):
            return None
        first, *others = images
        height, width = images[first].shape[:2]
        for other in others:
            h, w = images[other].shape[:2]
            if (h, w) != (height, width):
                sizes = f"{other} is {w}x{h}, its {first} image {width}x{height}"
                problems.append(Problem(self.images[other], 0, f"{sizes}: sizes must be equal"))
                return None
        return height, width


@dataclass
class Index:
    """The splits of a dataset, the classes of every task that it labels, and the problems of its files so far."""

    root: Path
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: dict[str, list[Entry]] = field(default_factory=dict)
    problems: Problems = field(default_factory=list)

    def problem(self, file: Path, message: str, line: int = 0) -> None:
        """Add a problem."""
        self.problems.append(Problem(file, line, message))

    def require(self, files: Iterable[Path]) -> bool:
        """Return whether these files exist; each missing one is a problem."""
        missing = [file for file in files if not file.is_file()]
        for file in missing:
            self.problem(file, "does not exist")
        return not missing

    def raise_problems(self) -> None:
        """Raise `DataError` if there are any."""
        raise_problems(self.root, self.problems)


def raise_problems(root: Path, problems: Problems) -> None:
    """Raise `DataError` with the first twenty problems of a dataset, if there are any."""
    if not problems:
        return
    lines = [str(problem) for problem in problems[:MAX_PRINTED]]
    if len(problems) > MAX_PRINTED:
        lines.append(f"and {len(problems) - MAX_PRINTED} more")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise DataError("\n".join([f"{root}: {count}; mend the files and run `edgemtl data check` again", *lines]))


def read_image(modality: str, file: Path, problems: Problems) -> NDArray[Any] | None:
    """Decode an image, upright: "rgb" (H, W, 3) uint8 in that order, "ir" (H, W) uint8 or uint16."""
    try:
        return pixels.read_image(file, modality)
    except ImageFileError as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def images_in(folder: Path, index: Index) -> dict[str, Path]:
    """Return the images of a folder by stem; a file of another type, or a second one of a stem, is a problem."""
    images: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            index.problem(file, f"is not an image of a known type ({', '.join(IMAGE_SUFFIXES)})")
        elif file.stem in images:
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
    """Return the lines of a list of images, without the empty ones."""
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        index.problem(file, f"cannot be read as a list of images: {error}")
        return []


def constant_label(label: Label, size: Size | None, problems: Problems) -> Label:
    """Return a label that has been read already; bound to it, this is a `LabelReader`."""
    return label


def clip_boxes(rows: Sequence[tuple[float, ...]], size: Size | None) -> tuple[BoxLabels, int]:
    """Return boxes of (class, x0, y0, x1, y1) in pixels, clipped to the image, and how many have no area in it."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    xyxy = table[:, 1:].astype(np.float32)
    if size is not None:
        h, w = size
        xyxy = xyxy.clip(0, np.array([w, h, w, h], np.float32))
    has_area = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    return BoxLabels(xyxy[has_area], table[has_area, 0].astype(np.int64)), int((~has_area).sum())
