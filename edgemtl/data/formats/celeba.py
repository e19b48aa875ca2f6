"""CelebAMask-HQ (Lee et al. 2020) with CelebA's attributes (Liu et al. 2015): faces, 1024×1024, labels of 512×512.

CelebA-HQ-img/N.jpg   CelebAMask-HQ-mask-anno/K/NNNNN_PART.png: white where the part is, K = N // 2000
CelebAMask-HQ-attribute-anno.txt: a count, forty names, then "N.jpg 1 -1 …" a line
CelebA-HQ-to-CelebA-mapping.txt: CelebA's split, where it exists with list_eval_partition.txt

Skin, hair and everything else are the classes, as in the thesis; without CelebA's partition the last tenth is "val" and
the tenth before it is "test".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgemtl_runtime.image_file import ImageFileError

from ..annotations import Entry, Index, LabelReader, constant_label
from ..label_size import Size
from ..problems import Problem, Problems
from ..readers.label_image import read_label_channel

SEMANTIC = ("other", "hair", "skin")
SKIN = ("skin", "nose", "l_ear", "r_ear", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip")
IMAGES, MASKS, ATTRIBUTES = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno", "CelebAMask-HQ-attribute-anno.txt"
MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"
PARTS = {"0": "train", "1": "val", "2": "test"}


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return (root / IMAGES).is_dir() and (root / MASKS).is_dir()


def index(root: Path, label_policy: str) -> Index:
    """Index the faces by their numbers."""
    result = Index(root, {"semantic": SEMANTIC})
    names, rows = _attributes(root / ATTRIBUTES, result)
    if names:
        result.classes["attributes"] = names
    numbers = sorted(int(file.stem) for file in (root / IMAGES).glob("*.jpg") if file.stem.isdecimal())
    parts = _partition(root, numbers, result)
    result.splits = {split: [] for split in PARTS.values()}
    for number in numbers:
        read: dict[str, LabelReader] = {"semantic": partial(_semantic, root / MASKS / str(number // 2000), number)}
        if number in rows:
            read["attributes"] = partial(constant_label, rows[number])
        entry = Entry(str(number), {"rgb": root / IMAGES / f"{number}.jpg"}, read)
        result.splits[parts[number]].append(entry)
    return result


def _attributes(file: Path, result: Index) -> tuple[tuple[str, ...], dict[int, NDArray[np.float32]]]:
    if not file.is_file():
        return (), {}
    lines = file.read_text().splitlines()
    names = tuple(lines[1].split()) if len(lines) > 1 else ()
    rows = {}
    for number, line in enumerate(lines[2:], 3):
        image, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            result.problem(file, f"expected an image and {len(names)} of 1 and -1, found '{line[:40]}'", number)
            continue
        rows[int(Path(image).stem)] = np.array([float(value == "1") for value in values], np.float32)
    return names, rows


def _partition(root: Path, numbers: list[int], result: Index) -> dict[int, str]:
    """Return every face's split: CelebA's, or by its number."""
    mapping, partition = root / MAPPING, root / PARTITION
    if not (mapping.is_file() and partition.is_file()):
        tenth = max(1, len(numbers) // 10)
        cut = len(numbers) - tenth
        return {n: "train" if i < cut - tenth else "test" if i < cut else "val" for i, n in enumerate(numbers)}
    original = dict(line.split() for line in partition.read_text().splitlines() if line.strip())
    files = {int(line.split()[0]): line.split()[2] for line in mapping.read_text().splitlines()[1:] if line.strip()}
    for number in numbers:
        if original.get(files.get(number, "")) not in PARTS:
            result.problem(mapping, f"does not lead from image {number} to a line of {PARTITION}")
    return {n: PARTS.get(original.get(files.get(n, ""), ""), "train") for n in numbers}


def _semantic(folder: Path, number: int, size: Size | None, problems: Problems) -> NDArray[np.uint8]:
    """Return the classes at the image's size: skin, the parts of the face with it, and hair over them."""
    size = size or (512, 512)
    ids = np.zeros(size, np.uint8)
    for part in (*SKIN, "hair"):
        file = folder / f"{number:05d}_{part}.png"
        if not file.is_file():
            continue  # a part that is not visible has no file
        try:
            mask = read_label_channel(file, as_shown=True)
        except ImageFileError as error:
            problems.append(Problem(file, 0, str(error)))
            continue
        resized = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
        ids[resized > 127] = SEMANTIC.index("hair" if part == "hair" else "skin")
    return ids
