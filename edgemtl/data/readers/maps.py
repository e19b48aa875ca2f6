"""Label files, one an image and task, in a folder named like the task; a missing file is no label.

Tasks say in `tasks.base.Task.label_files` how theirs are read; those of the built-in ones are maps:

semantic/SPLIT/STEM.png   8 bits: class ids as data.yaml names them, 255 where unknown
depth/SPLIT/STEM.png      16 bits: millimetres, 0 where unknown
normals/SPLIT/STEM.png    8 bits RGB: 128 + 127 n of the unit vector (x right, y down, z forward), black where unknown
edges/SPLIT/STEM.png      8 bits: 0 where there is none, 255 on an edge, 128 where unknown
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...tasks import TASKS
from ...tasks.base import LabelFiles
from ..label_size import Size, has_size
from ..problems import Problem, Problems
from ..sample import IGNORE

Array = NDArray[Any]


def read_semantic(image: Array, classes: tuple[str, ...]) -> Array:
    """Return class ids; raises `ValueError` with what is wrong."""
    _expect(image, np.uint8, 2, "a segmentation map has one channel of 8 bits")
    unknown = sorted(set(np.unique(image).tolist()) - {*range(len(classes)), IGNORE})
    if unknown:
        raise ValueError(f"unknown class ids {unknown[:5]}")
    return image


def read_depth(image: Array, classes: tuple[str, ...]) -> Array:
    """Return metres, 0 where unknown."""
    _expect(image, np.uint16, 2, "a depth map has one channel of 16 bits, in millimetres")
    return image.astype(np.float32) / 1000


def read_normals(image: Array, classes: tuple[str, ...]) -> Array:
    """Return unit vectors, zero where unknown."""
    _expect(image, np.uint8, 3, "a normal map has three channels of 8 bits")
    known = image.any(2, keepdims=True)
    vectors = (image[:, :, ::-1].astype(np.float32) - 128) / 127
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    if known.any() and not 0.9 < float(np.median(length[known])) < 1.1:
        raise ValueError("holds no unit vectors: expected 128 + 127 n in 8 bits RGB, black where unknown")
    return np.where(known, vectors / np.maximum(length, 1e-6), np.float32(0))


def read_edges(image: Array, classes: tuple[str, ...]) -> Array:
    """Return 1 on edges, 0 elsewhere and `IGNORE` where unknown."""
    _expect(image, np.uint8, 2, "an edge map has one channel of 8 bits")
    unknown = sorted(set(np.unique(image).tolist()) - {0, 128, 255})
    if unknown:
        raise ValueError(f"values {unknown[:5]}: an edge map holds 0 (none), 255 (edge) and 128 (unknown)")
    edges = np.zeros(image.shape, np.uint8)
    edges[image == 255], edges[image == 128] = 1, IGNORE
    return edges


class LabelReaders(Mapping[str, LabelFiles]):
    """The label files of every task that has its own, by the task's name: a view of `tasks.TASKS`."""

    def __iter__(self) -> Iterator[str]:
        return (name for name, task in TASKS.items() if task.label_files is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> LabelFiles:
        files = TASKS[name].label_files
        if files is None:
            raise KeyError(name)
        return files


READERS = LabelReaders()


def read_map(task: str, file: Path, classes: tuple[str, ...], size: Size | None, problems: Problems) -> Any | None:
    """Return a task's label of one image of ``size``, or None with a problem added."""
    label_files = READERS[task]
    if label_files.decode is None:
        return _read_other(label_files, file, classes, size, problems)
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    try:
        if image is None:
            raise ValueError("cannot be read as an image")
        if not has_size(file, image.shape[:2], size, problems, task):
            return None
        return label_files.decode(image, classes)
    except ValueError as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def _read_other(
    label_files: LabelFiles, file: Path, classes: tuple[str, ...], size: Size | None, problems: Problems
) -> Any | None:
    if size is None or label_files.read is None:  # the image has a problem of its own
        return None
    try:
        return label_files.read(file, classes, size)
    except (OSError, ValueError) as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def write_map(task: str, file: Path, labels: Array) -> None:
    """Write a task's label of one image as `read_map` reads them."""
    if task == "depth":
        labels = (labels * 1000).round().clip(0, 65535).astype(np.uint16)
    elif task == "normals":
        known = np.linalg.norm(labels, axis=2, keepdims=True) > 0.5
        labels = np.where(known, 128 + 127 * labels, 0).round().astype(np.uint8)[:, :, ::-1]
    elif task == "edges":
        labels = np.select([labels == 1, labels == IGNORE], [255, 128], 0).astype(np.uint8)
    _, data = cv2.imencode(file.suffix, labels)
    file.write_bytes(data.tobytes())


def _expect(image: Array, dtype: type[np.generic], ndim: int, expected: str) -> None:
    if image.dtype != dtype or image.ndim != ndim or (ndim == 3 and image.shape[2] != 3):
        actual = f"{image.shape[2] if image.ndim == 3 else 1} channels of {8 * image.itemsize} bits"
        raise ValueError(f"{expected}, not {actual}")
