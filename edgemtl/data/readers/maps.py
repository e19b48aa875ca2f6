"""Label pictures of one's own: one PNG a picture and task, in a folder named like the task; a missing one is no label.

semantic/SPLIT/STEM.png   8 bits: class ids as data.yaml names them, 255 where unknown
depth/SPLIT/STEM.png      16 bits: millimetres, 0 where unknown
normals/SPLIT/STEM.png    8 bits RGB: 128 + 127 n of the unit vector (x right, y down, z forward), black where unknown
edges/SPLIT/STEM.png      8 bits: 0 where there is none, 255 on an edge, 128 where unknown
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..annotations import Problem, Problems, Size
from ..sample import IGNORE

Array = NDArray[Any]


def read_semantic(picture: Array, classes: tuple[str, ...]) -> Array:
    """Return class ids; raises `ValueError` with what is wrong."""
    _expect(picture, np.uint8, 2, "a segmentation picture has one channel of 8 bits")
    unknown = sorted(set(np.unique(picture).tolist()) - {*range(len(classes)), IGNORE})
    if unknown:
        raise ValueError(f"unknown class ids {unknown[:5]}")
    return picture


def read_depth(picture: Array, classes: tuple[str, ...]) -> Array:
    """Return metres, 0 where unknown."""
    _expect(picture, np.uint16, 2, "a depth picture has one channel of 16 bits, in millimetres")
    return picture.astype(np.float32) / 1000


def read_normals(picture: Array, classes: tuple[str, ...]) -> Array:
    """Return unit vectors, zero where unknown."""
    _expect(picture, np.uint8, 3, "a normal picture has three channels of 8 bits")
    known = picture.any(2, keepdims=True)
    vectors = (picture[:, :, ::-1].astype(np.float32) - 128) / 127
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    if known.any() and not 0.9 < float(np.median(length[known])) < 1.1:
        raise ValueError("holds no unit vectors: expected 128 + 127 n in 8 bits RGB, black where unknown")
    return np.where(known, vectors / np.maximum(length, 1e-6), np.float32(0))


def read_edges(picture: Array, classes: tuple[str, ...]) -> Array:
    """Return 1 on edges, 0 elsewhere and `IGNORE` where unknown."""
    _expect(picture, np.uint8, 2, "an edge picture has one channel of 8 bits")
    unknown = sorted(set(np.unique(picture).tolist()) - {0, 128, 255})
    if unknown:
        raise ValueError(f"values {unknown[:5]}: an edge picture holds 0 (none), 255 (edge) and 128 (unknown)")
    edges = np.zeros(picture.shape, np.uint8)
    edges[picture == 255], edges[picture == 128] = 1, IGNORE
    return edges


READERS: dict[str, Callable[[Array, tuple[str, ...]], Array]] = {
    "semantic": read_semantic,
    "depth": read_depth,
    "normals": read_normals,
    "edges": read_edges,
}
"""What is read of each task's folder."""


def read_map(task: str, file: Path, classes: tuple[str, ...], size: Size | None, problems: Problems) -> Array | None:
    """Return a task's labels of one picture of ``size``, or None with a problem noted."""
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    try:
        if picture is None:
            raise ValueError("cannot be read as an image")
        if size and picture.shape[:2] != size:
            sizes = f"{picture.shape[1]}x{picture.shape[0]}, its picture {size[1]}x{size[0]}"
            raise ValueError(f"{task} is {sizes}: sizes must be equal")
        return READERS[task](picture, classes)
    except ValueError as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def write_map(task: str, file: Path, labels: Array) -> None:
    """Write a task's labels of one picture as `read_map` reads them."""
    if task == "depth":
        labels = (labels * 1000).round().clip(0, 65535).astype(np.uint16)
    elif task == "normals":
        known = np.linalg.norm(labels, axis=2, keepdims=True) > 0.5
        labels = np.where(known, 128 + 127 * labels, 0).round().astype(np.uint8)[:, :, ::-1]
    elif task == "edges":
        labels = np.select([labels == 1, labels == IGNORE], [255, 128], 0).astype(np.uint8)
    _, data = cv2.imencode(file.suffix, labels)
    file.write_bytes(data.tobytes())


def _expect(picture: Array, kind: type, ndim: int, what: str) -> None:
    if picture.dtype != kind or picture.ndim != ndim or (ndim == 3 and picture.shape[2] != 3):
        found = f"{picture.shape[2] if picture.ndim == 3 else 1} channels of {8 * picture.itemsize} bits"
        raise ValueError(f"{what}, not {found}")
