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
    numbers = []
    for file in sorted((root / IMAGES).iterdir()):
        if file.suffix == ".jpg" and file.stem.isdecimal() and file.name == f"{int(file.stem)}.jpg":
            numbers.append(int(file.stem))
        else:
            result.problems.skip("files that are no N.jpg", file)
    numbers.sort()
    if not numbers:
        result.problem(root / IMAGES, "holds no images N.jpg")
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
    lines = _read_lines(file, result) if file.is_file() else []
    names = tuple(lines[1].split()) if len(lines) > 1 else ()
    rows = {}
    for number, line in enumerate(lines[2:], 3):
        image, *values = line.split() or [""]
        stem = Path(image).stem
        if not stem.isdecimal() or len(values) != len(names) or not set(values) <= {"1", "-1"}:
            result.problem(file, f"expected N.jpg and {len(names)} of 1 and -1, found '{line[:40]}'", number)
            continue
        rows[int(stem)] = np.array([float(value == "1") for value in values], np.float32)
    return names, rows


def _read_lines(file: Path, result: Index) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        result.problem(file, f"cannot be read as text: {error}")
        return []


def _partition(root: Path, numbers: list[int], result: Index) -> dict[int, str]:
    """Return every face's split: CelebA's, or by its number."""
    mapping, partition = root / MAPPING, root / PARTITION
    if not (mapping.is_file() and partition.is_file()):
        tenth = max(1, len(numbers) // 10)
        cut = len(numbers) - tenth
        return {n: "train" if i < cut - tenth else "test" if i < cut else "val" for i, n in enumerate(numbers)}
    original = {fields[0]: fields[1] for fields in _fields(partition, "NNNNNN.jpg and 0, 1 or 2", 2, 0, result)}
    rows = _fields(mapping, "three fields: N, its number in CelebA, NNNNNN.jpg", 3, 1, result)
    files = {int(fields[0]): fields[2] for fields in rows if fields[0].isdecimal()}
    lost = [number for number in numbers if original.get(files.get(number, "")) not in PARTS]
    if lost:
        more = f" (and {len(lost) - 1} more of this kind)" if len(lost) > 1 else ""
        result.problem(mapping, f"does not lead from image {lost[0]} to a line of {PARTITION}{more}")
    return {n: PARTS.get(original.get(files.get(n, ""), ""), "train") for n in numbers}


def _fields(file: Path, expected: str, count: int, header: int, result: Index) -> list[list[str]]:
    """Return the fields of a table's lines after its header; a line of fewer is a problem."""
    rows = []
    for number, line in enumerate(_read_lines(file, result)[header:], header + 1):
        if fields := line.split():
            if len(fields) < count:
                result.problem(file, f"expected {expected}, found '{line[:40]}'", number)
            else:
                rows.append(fields)
    return rows


def _semantic(folder: Path, number: int, size: Size | None, problems: Problems) -> NDArray[np.uint8] | None:
    """Return the classes at the image's size: skin, the parts of the face with it, and hair over them."""
    height, width = size or (512, 512)
    ids = np.zeros((height, width), np.uint8)
    files = {part: folder / f"{number:05d}_{part}.png" for part in (*SKIN, "hair")}
    files = {part: file for part, file in files.items() if file.is_file()}  # a part that is not visible has no file
    if not files:
        problems.append(Problem(folder, 0, f"has no mask {number:05d}_skin.png, nor one of another part of this face"))
        return None
    for part, file in files.items():
        try:
            mask = read_label_channel(file, as_shown=True)
        except ImageFileError as error:
            problems.append(Problem(file, 0, str(error)))
            return None
        if mask.shape[0] * width != mask.shape[1] * height and size is not None:
            shapes = f"{mask.shape[1]}x{mask.shape[0]}, its image {width}x{height}"
            problems.append(Problem(file, 0, f"is {shapes}: a mask is of the same shape, of any size"))
            return None
        resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        ids[resized > 127] = SEMANTIC.index("hair" if part == "hair" else "skin")
    return ids
