"""COCO's object detection JSON (Lin et al. 2014): pictures of one camera and their boxes.

annotations/{instances_train*,train}.json and {instances_val*,val}.json, or {train,val}/_annotations.coco.json
train*/ val*/ images/ or the folder itself hold the pictures that ``file_name`` names

Crowds are left out; categories stand in the order of their ids, those without any object too.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from ..annotations import Entry, Index, Problem, Problems, Size, boxes_inside
from ..sample import BoxLabels

PATTERNS = ("annotations/instances_{0}*.json", "annotations/{0}.json", "{0}/_annotations.coco.json", "{0}.json")
SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}


def matches(root: Path) -> bool:
    """Whether the folder is laid out so."""
    return root.is_dir() and not (root / "data.yaml").is_file() and _file(root, "train") is not None


def _file(root: Path, split: str) -> Path | None:
    found = (file for word in SPLITS[split] for pattern in PATTERNS for file in sorted(root.glob(pattern.format(word))))
    return next(found, None)


def index(root: Path, labels: str) -> Index:
    """List the pictures of every split that has a file."""
    result = Index(root)
    for split in SPLITS:
        file = _file(root, split)
        if file is not None:
            _read_split(root, split, file, result)
    return result


def _read_split(root: Path, split: str, file: Path, result: Index) -> None:
    try:
        told = json.loads(file.read_text())
        categories = sorted(told["categories"], key=lambda category: category["id"])
        names = tuple(str(category["name"]) for category in categories)
        place = {category["id"]: i for i, category in enumerate(categories)}
        pictures = {picture["id"]: picture for picture in told["images"]}
        boxes: dict[Any, list[tuple[float, ...]]] = {number: [] for number in pictures}
        for item in told["annotations"]:
            if not item.get("iscrowd"):
                x, y, w, h = (float(value) for value in item["bbox"])
                boxes[item["image_id"]].append((place[item["category_id"]], x, y, x + w, y + h))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        result.problem(file, f"cannot be read as COCO's JSON: {error!r}"[:200])
        return
    if result.classes.setdefault("boxes", names) != names:
        result.problem(file, f"has other categories than the other splits: {', '.join(names)[:100]}")
        return
    folders = [file.parent, *(root / f for f in SPLITS[split]), *sorted(root.glob(f"{split}*/")), root / "images", root]
    result.splits[split] = []
    for number, picture in pictures.items():
        name = str(picture["file_name"])
        image = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if image is None:
            result.problem(file, f"names {name}, which is in none of the folders for pictures")
            continue
        entry = Entry(Path(name).stem, {"rgb": image}, {"boxes": partial(_boxes, file, name, boxes[number])})
        result.splits[split].append(entry)


def _boxes(file: Path, name: str, rows: list[tuple[float, ...]], size: Size | None, problems: Problems) -> BoxLabels:
    found, lost = boxes_inside(rows, size)
    if lost:
        problems.append(Problem(file, 0, f"{lost} boxes of {name} have no area inside the picture"))
    return found
