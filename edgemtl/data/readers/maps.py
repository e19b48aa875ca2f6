"""Label files, one an image and task, in a folder named like the task; a missing file is no label.

Tasks say in `tasks.base.Task.label_files` how theirs are read; those of the built-in ones are maps, as PNG or TIFF:

semantic/SPLIT/STEM.png   8 bits: class ids as data.yaml names them, 255 where unknown
depth/SPLIT/STEM.png      16 bits: millimetres, 0 where unknown
normals/SPLIT/STEM.png    8 bits RGB: 128 + 127 n of the unit vector (x right, y down, z forward), black where unknown
edges/SPLIT/STEM.png      8 bits: 0 where there is none, 255 on an edge, 128 where unknown

Class ids of an image with a palette are its indices. Whole numbers may be of another type, as signed 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.image_file import ImageFileError
from edgemtl_runtime.pixels import describe

from ...tasks import TASKS
from ...tasks.base import LabelFiles
from ..label_size import Size, has_size
from ..problems import Problem, Problems
from ..sample import IGNORE
from .label_image import one_channel, read_label_image

Array = NDArray[Any]


def read_semantic(pixels: Array, classes: tuple[str, ...]) -> Array:
    """Return class ids; raises `ValueError` with what is wrong."""
    image = _whole(one_channel(pixels), 255, "a segmentation map holds class ids in one channel of 8 bits")
    unknown = sorted(set(np.unique(image).tolist()) - {*range(len(classes)), IGNORE})
    if unknown:
        raise ValueError(f"unknown class ids {unknown[:5]}; data.yaml names 0 to {len(classes) - 1}, 255 is unknown")
    return image.astype(np.uint8)


def read_depth(pixels: Array, classes: tuple[str, ...]) -> Array:
    """Return metres, 0 where unknown."""
    expected = "a depth map has one channel of 16 bits, in millimetres"
    image = one_channel(pixels)
    if image.itemsize < 2:
        raise ValueError(f"{expected}, not {describe(image)}")
    return _whole(image, 65535, expected).astype(np.float32) / 1000


def read_normals(pixels: Array, classes: tuple[str, ...]) -> Array:
    """Return unit vectors, zero where unknown."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ValueError(f"a normal map has three channels of 8 bits, not {describe(pixels)}")
    known = pixels.any(2, keepdims=True)
    vectors = (pixels.astype(np.float32) - 128) / 127
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    if known.any() and not 0.9 < float(np.median(length[known])) < 1.1:
        raise ValueError("holds no unit vectors: expected 128 + 127 n in 8 bits RGB, black where unknown")
    return np.where(known, vectors / np.maximum(length, 1e-6), np.float32(0))


def read_edges(pixels: Array, classes: tuple[str, ...]) -> Array:
    """Return 1 on edges, 0 elsewhere and `IGNORE` where unknown."""
    image = _whole(one_channel(pixels), 255, "an edge map has one channel of 8 bits")
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
    try:
        pixels = read_label_image(file, label_files.as_shown)
        label = label_files.decode(pixels, classes)
    except (ImageFileError, ValueError) as error:
        problems.append(Problem(file, 0, str(error)))
        return None
    return label if has_size(file, (pixels.shape[0], pixels.shape[1]), size, problems, task) else None


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


def _whole(image: Array, most: int, expected: str) -> Array:
    """Return whole numbers of any type; raises `ValueError` where one is negative, too large or a fraction."""
    if image.size and not (image.min() >= 0 and image.max() <= most and (image == image.astype(np.int64)).all()):
        raise ValueError(f"{expected}, not {describe(image)} with values from {image.min():g} to {image.max():g}")
    return image
