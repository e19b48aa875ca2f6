"""What a data set holds, before anything of it is decoded: its pictures, and where each one's labels come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .sample import BoxLabels, Sample

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
SHOWN = 20
"""How many problems an error prints; the count is always told."""


@dataclass(frozen=True)
class Problem:
    """Something wrong in the data: in which file, on which line (0: the whole file), and what."""

    file: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


Problems = list[Problem]
Size = tuple[int, int]
"""Height and width, pixels."""
Read = Callable[[Size | None, Problems], Any]
"""Reads a label of a picture of that size, if it is known; None, with the problems added to, when it cannot be."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One moment: the picture files by modality ("rgb", "ir"), and a reader of its label by task."""

    name: str
    images: dict[str, Path]
    labels: dict[str, Read]
    is_day: bool | None = None

    def read(self, problems: Problems) -> Sample | None:
        """Decode the pictures and their labels; None when the pictures cannot be used."""
        images = {modality: read_image(modality, file, problems) for modality, file in self.images.items()}
        size = self._size({m: image for m, image in images.items() if image is not None}, problems)
        labels = {task: read(size, problems) for task, read in self.labels.items()}
        if size is None:
            return None
        known = {task: label for task, label in labels.items() if label is not None}
        return Sample(images, known, self.is_day, self.name)  # type: ignore[arg-type]

    def _size(self, images: dict[str, NDArray[Any]], problems: Problems) -> Size | None:
        """Return the size that all the pictures have, if they all have one."""
        if len(images) < len(self.images):
            return None
        first, *others = images
        height, width = images[first].shape[:2]
        for other in others:
            h, w = images[other].shape[:2]
            if (h, w) != (height, width):
                sizes = f"{other} is {w}x{h}, its {first} picture {width}x{height}"
                problems.append(Problem(self.images[other], 0, f"{sizes}: sizes must be equal"))
                return None
        return height, width


@dataclass
class Index:
    """The splits of a data set, the classes of every task that is labelled in it, and what is wrong with it so far."""

    root: Path
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: dict[str, list[Entry]] = field(default_factory=dict)
    problems: Problems = field(default_factory=list)

    def problem(self, file: Path, what: str, line: int = 0) -> None:
        """Note something wrong."""
        self.problems.append(Problem(file, line, what))

    def all_there(self, files: Iterable[Path]) -> bool:
        """Whether these files exist; each that does not is a problem."""
        gone = [file for file in files if not file.is_file()]
        for file in gone:
            self.problem(file, "is not there")
        return not gone

    def raise_problems(self) -> None:
        """Raise `DataError` if there are any."""
        raise_problems(self.root, self.problems)


def raise_problems(root: Path, problems: Problems) -> None:
    """Raise `DataError` with the first twenty problems of a data set, if there are any."""
    if not problems:
        return
    lines = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"and {len(problems) - SHOWN} more")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise DataError("\n".join([f"{root}: {count}; mend the files and run `edgemtl data check` again", *lines]))


def read_image(modality: str, file: Path, problems: Problems) -> NDArray[Any] | None:
    """Decode a picture: "rgb" (H, W, 3) uint8 in that order, "ir" (H, W) uint8 or uint16."""
    colour = modality == "rgb"
    image = cv2.imread(str(file), cv2.IMREAD_COLOR if colour else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    if image is None:
        problems.append(Problem(file, 0, "cannot be read as an image"))
    elif not colour and image.dtype not in (np.uint8, np.uint16):
        problems.append(Problem(file, 0, f"has {8 * image.itemsize} bits a value; thermal has 8 or 16"))
    else:
        return np.ascontiguousarray(image[:, :, ::-1]) if colour else image
    return None


def images_in(folder: Path, index: Index) -> dict[str, Path]:
    """Return the pictures of a folder by stem; a file that is none, or a second one of a stem, is a problem."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix.lower() not in IMAGES:
            index.problem(file, f"is no picture of a known kind ({', '.join(IMAGES)})")
        elif file.stem in found:
            index.problem(file, f"has the same stem as {found[file.stem].name}")
        else:
            found[file.stem] = file
    return found


def paired(folders: dict[str, Path], index: Index) -> list[tuple[str, dict[str, Path]]]:
    """Return the stems that every folder has a picture of, with the files by modality; others are problems."""
    for folder in folders.values():
        if not folder.is_dir():
            index.problem(folder, "this folder does not exist")
            return []
    files = {modality: images_in(folder, index) for modality, folder in folders.items()}
    stems = set.intersection(*(set(found) for found in files.values()))
    for found in files.values():
        for stem in sorted(found.keys() - stems):
            other = next(m for m in files if stem not in files[m])
            index.problem(found[stem], f"has no {other} partner in {folders[other]}")
    return [(stem, {modality: files[modality][stem] for modality in files}) for stem in sorted(stems)]


def listed(file: Path, index: Index) -> list[str]:
    """Return the lines of a list of pictures, without the empty ones."""
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        index.problem(file, f"cannot be read as a list of pictures: {error}")
        return []


def known(label: Any, size: Size | None, problems: Problems) -> Any:
    """Read a label that is there already."""
    return label


def boxes_inside(rows: Sequence[tuple[float, ...]], size: Size | None) -> tuple[BoxLabels, int]:
    """Return boxes of (class, x0, y0, x1, y1) in pixels, clipped to the picture, and how many have no area in it."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    xyxy = table[:, 1:].astype(np.float32)
    if size is not None:
        h, w = size
        xyxy = xyxy.clip(0, np.array([w, h, w, h], np.float32))
    whole = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    return BoxLabels(xyxy[whole], table[whole, 0].astype(np.int64)), int((~whole).sum())
