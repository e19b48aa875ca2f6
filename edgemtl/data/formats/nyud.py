"""NYUD_MT: NYU-v2 (Silberman et al. 2012) prepared for several tasks (Maninis et al. 2019), 640×480, indoors.

images/STEM.jpg   segmentation/STEM.png: 1 to 40, 0 unknown   depth/STEM.npy: metres   normals/STEM.npy: unit vectors
edge/STEM.npy: 0 or 1   gt_sets/{train,val}.txt: STEM a line

Depth of 0 and normals of no length are unknown, and so is what is no finite number.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.image_file import ImageFileError

from ..annotations import Entry, Index, read_list
from ..label_size import Size, has_size
from ..problems import Problem, Problems
from ..readers.label_image import read_label_channel
from ..sample import IGNORE

SEMANTIC = tuple(
    """
    wall floor cabinet bed chair sofa table door window bookshelf picture counter blinds desk shelves curtain dresser
    pillow mirror floor-mat clothes ceiling books refrigerator television paper towel shower-curtain box whiteboard
    person night-stand toilet sink lamp bathtub bag other-structure other-furniture other-prop
    """.split()  # noqa: SIM905
)
MAX_DEPTH_M = 100.0
"""Greater values are not metres."""
FOLDERS = {"semantic": "segmentation", "depth": "depth", "normals": "normals", "edges": "edge"}


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return (root / "images").is_dir() and (root / "gt_sets" / "train.txt").is_file()


def index(root: Path, label_policy: str) -> Index:
    """Index the images of the two lists."""
    result = Index(root, {"semantic": SEMANTIC, "depth": (), "normals": (), "edges": ()})
    for split in ("train", "val"):
        result.splits[split] = []
        for stem in read_list(root / "gt_sets" / f"{split}.txt", result):
            image = root / "images" / f"{stem}.jpg"
            label_files = {
                t: root / folder / f"{stem}.{'png' if t == 'semantic' else 'npy'}" for t, folder in FOLDERS.items()
            }
            if result.require([image, *label_files.values()]):
                result.splits[split].append(
                    Entry(stem, {"rgb": image}, {t: partial(_read, t, f) for t, f in label_files.items()})
                )
    return result


def _read(task: str, file: Path, size: Size | None, problems: Problems) -> NDArray[Any] | None:
    try:
        label = read_label_channel(file) if file.suffix == ".png" else np.load(file, allow_pickle=False)
        _check_form(task, label)
        return _label(task, label) if has_size(file, label.shape[:2], size, problems) else None
    except (OSError, ValueError, ImageFileError) as error:
        problems.append(Problem(file, 0, str(error)))
        return None


def _check_form(task: str, label: NDArray[Any]) -> None:
    """Raise `ValueError` where a label is no array (H, W), (H, W, 1) or, of normals, (H, W, 3) of numbers."""
    channels = 3 if task == "normals" else 1
    if label.dtype.kind not in "biuf" or not label.size or label.ndim not in (2, 3) or label[0, 0].size != channels:
        wanted = f"{task} has height, width and {channels} value{'s' if channels > 1 else ''} a pixel"
        raise ValueError(f"is an array {label.shape} of {label.dtype}; {wanted}")


def _label(task: str, label: NDArray[Any]) -> NDArray[Any]:
    """Return a label in our units; raises `ValueError` with what it is instead."""
    if task == "semantic":
        unknown = sorted(set(np.unique(label).tolist()) - {*range(len(SEMANTIC) + 1), IGNORE})
        if unknown:
            raise ValueError(f"has the class ids {unknown[:5]}; 0 to {len(SEMANTIC)} are known")
        ids: NDArray[np.uint8] = np.where((label == 0) | (label == IGNORE), IGNORE, label - 1).astype(np.uint8)
        return ids
    values = np.where(np.isfinite(label), label, 0).astype(np.float32)
    if task == "edges":
        return (values.reshape(label.shape[:2]) > 0.5).astype(np.uint8)
    if task == "depth":
        if values.max() > MAX_DEPTH_M:
            raise ValueError(f"has depths up to {values.max():g}; NYU's are metres, at most 10")
        depth_m: NDArray[np.float32] = np.maximum(values, 0).reshape(label.shape[:2])
        return depth_m
    length = np.linalg.norm(values, axis=2, keepdims=True)
    normals: NDArray[np.float32] = np.where(length > 0.5, values / np.maximum(length, 1e-6), 0).astype(np.float32)
    return normals
