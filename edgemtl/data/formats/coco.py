"""COCO's object detection JSON (Lin et al. 2014): images of one modality and their boxes.

annotations/{instances_train*,train}.json and {instances_val*,val}.json, or {train,val}/_annotations.coco.json
train*/ val*/ images/ or the folder itself hold the images that ``file_name`` names

Crowds are skipped; categories are ordered by their ids, those without any object too.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from ..annotations import Entry, Index, clip_boxes
from ..label_size import Size
from ..problems import Problem, Problems
from ..sample import BoxLabels

PATTERNS = ("annotations/instances_{0}*.json", "annotations/{0}.json", "{0}/_annotations.coco.json", "{0}.json")
SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}


def matches(root: Path) -> bool:
    """Whether the folder has this format."""
    return root.is_dir() and not (root / "data.yaml").is_file() and _file(root, "train") is not None


def _file(root: Path, split: str) -> Path | None:
    names = [pattern.format(name) for name in SPLITS[split] for pattern in PATTERNS]
    return next((file for name in names for file in sorted(root.glob(name))), None)


def index(root: Path, label_policy: str) -> Index:
    """Index the images of every split that has a file."""
    result = Index(root)
    for split in SPLITS:
        file = _file(root, split)
        if file is not None:
            _read_split(root, split, file, result)
    return result


def _read_split(root: Path, split: str, file: Path, result: Index) -> None:
    try:
        content = json.loads(file.read_text())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        names = tuple(str(category["name"]) for category in categories)
        index_of = {category["id"]: i for i, category in enumerate(categories)}
        images = {image["id"]: image for image in content["images"]}
        boxes: dict[Any, list[tuple[float, ...]]] = {number: [] for number in images}
        for item in content["annotations"]:
            if not item.get("iscrowd"):
                x, y, w, h = (float(value) for value in item["bbox"])
                boxes[item["image_id"]].append((index_of[item["category_id"]], x, y, x + w, y + h))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        result.problem(file, f"cannot be read as COCO's JSON: {error!r}"[:200])
        return
    if result.classes.setdefault("boxes", names) != names:
        result.problem(file, f"has other categories than the other splits: {', '.join(names)[:100]}")
        return
    folders = [file.parent, *(root / f for f in SPLITS[split]), *sorted(root.glob(f"{split}*/")), root / "images", root]
    result.splits[split] = []
    for number, image in images.items():
        name = str(image["file_name"])
        image_file = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if image_file is None:
            result.problem(file, f"names {name}, which is in none of the folders of images")
            continue
        entry = Entry(Path(name).stem, {"rgb": image_file}, {"boxes": partial(_boxes, file, name, boxes[number])})
        result.splits[split].append(entry)


def _boxes(file: Path, name: str, rows: list[tuple[float, ...]], size: Size | None, problems: Problems) -> BoxLabels:
    boxes, num_outside = clip_boxes(rows, size)
    if num_outside:
        problems.append(Problem(file, 0, f"{num_outside} boxes of {name} have no area inside the image"))
    return boxes
